"""The fake provider as a process: its options, its one ready line, and how it ends."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import pytest

from runtime.cli.asking import EXIT_USAGE, CommandError
from runtime.cli.fake_provider import read_quirks
from runtime.fake_provider.quirks import Quirks, Rotation
from tests.fakes.daemon_process import clean_environment
from tests.fakes.warm_program import ROOT

PROGRAM = """
from cyclopts import App
from runtime.cli.fake_provider import fake_provider_command
app = App()
app.default(fake_provider_command)
app()
"""


@contextlib.asynccontextmanager
async def running(*arguments: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-c", PROGRAM, *arguments),
        cwd=ROOT,
        env=clean_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_it_says_where_it_is_and_runs_until_a_signal(tmp_path: Path):
    secrets = tmp_path / "secrets"
    secrets.write_text("old\nnew\n")
    options = ["--grants", "2", "--quirk", "lifetime_s=60", "--client-id", "app"]

    async with running(*options, "--client-secret-file", str(secrets)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        ready = (await process.stderr.readline()).decode().split()
        first, second = [json.loads(await process.stdout.readline()) for _ in range(2)]
        url = ready[1].removeprefix("url=")
        body = {"grant_type": "refresh_token", "refresh_token": second["refresh_token"]}
        async with httpx2.AsyncClient() as http:
            answer = await http.post(f"{url}/token", data=body, auth=("app", "new"))
        process.send_signal(signal.SIGTERM)
        code = await process.wait()
        rest = await process.stderr.read()

    assert (ready[0], ready[2]) == ("ready", "client_id=app")
    assert url.startswith("http://127.0.0.1:")
    assert first["grant"] != second["grant"]
    assert answer.json()["expires_in"] in (59, 60)
    assert (code, rest) == (0, b"")


def test_quirks_come_from_a_file_and_single_ones_go_over_it(tmp_path: Path):
    toml, text = tmp_path / "q.toml", tmp_path / "q.json"
    toml.write_text('rotation = "grace"\ngrace_s = 5\nfields = {access_token = "token"}\n')
    text.write_text('{"expires_in": null, "canned": "waf_403"}')

    assert read_quirks(toml, ("grace_s=7", "seed=3")) == Quirks(
        rotation=Rotation.GRACE, grace_s=7, fields={"access_token": "token"}, seed=3
    )
    assert read_quirks(text, ("canned=null",)) == Quirks(expires_in=None)
    assert read_quirks(None, ('headers={"a": "b"}', "expires_in=soon")) == Quirks(
        headers={"a": "b"}, expires_in="soon"
    )


@pytest.mark.parametrize(
    ("content", "pairs", "named"),
    [
        ("nonsense = 1", (), "nonsense"),
        ("rotation = 'sometimes'", (), "rotation"),
        ("rotation", (), "q.toml"),
        (None, (), "q.toml"),
        ("", ("rotation",), "NAME=VALUE"),
        ("", ("grace_s=-1",), "grace_s"),
    ],
)
def test_a_wrong_quirk_is_refused_by_name(
    tmp_path: Path, content: str | None, pairs: tuple[str, ...], named: str
):
    file = tmp_path / "q.toml"
    if content is not None:
        file.write_text(content)

    with pytest.raises(CommandError, match=named) as refused:
        read_quirks(file, pairs)

    assert refused.value.code == EXIT_USAGE
