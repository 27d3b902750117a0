"""A configuration that nobody read, and connections that nothing refreshes for it, are told."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from runtime.cli.check_verb import check_command
from runtime.config import load_config
from runtime.nats.errors import LinkError
from runtime.reloading import Place
from runtime.serving import serve
from tests.fakes.daemon_process import daemon_process, plain_caller
from tests.fakes.eventually import eventually
from tests.fakes.refreshd_command import refreshd

UNREAD = "no configuration file was read (--config FILE, $REFRESHD_CONFIG)"


def test_check_without_a_file_is_no_ok_where_a_configuration_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "refreshd.toml").write_text("[nothing]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REFRESHD_CONFIG", raising=False)

    with pytest.raises(SystemExit) as ended:
        check_command()

    told = f"{UNREAD}; there is a refreshd.toml here: `refreshd check refreshd.toml`\n"
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", told)


async def test_check_of_the_environment_alone_says_that_no_file_was_read():
    found = await refreshd("check")

    assert (found.code, found.stdout[:15]) == (0, "ok: 0 providers")
    assert found.stderr.startswith(UNREAD)


async def test_a_start_beside_a_configuration_that_is_not_named_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "refreshd.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    config = load_config(
        None,
        environment={"REFRESHD_NATS_LINK_CONNECT_TIMEOUT_S": "0.1", "REFRESHD_HTTP_LISTEN": ""},
        nats_url="nats://127.0.0.1:9",
    )

    with capture_logs() as logs, pytest.raises(LinkError):
        await serve(
            config,
            tmp_path / "data",
            announce=lambda _: None,
            stop=asyncio.Event(),
            hang_up=asyncio.Event(),
            came_from=Place(None, tmp_path / "data"),
        )

    [told] = [line for line in logs if line["event"] == "configuration_overlooked"]
    assert (told["what"], told["here"]) == (UNREAD, "refreshd.toml")


async def test_connections_that_no_profile_is_for_are_told_in_the_log_of_a_start(tmp_path: Path):
    environment = {"REFRESHD_HTTP_LISTEN": ""}
    async with daemon_process(tmp_path, environment=environment) as daemon:
        async with plain_caller(**daemon.context) as caller:
            await caller.connect(provider_slug="forgotten")
        await daemon.stop()

    async with daemon_process(tmp_path, environment=environment) as daemon:

        async def is_told() -> bool:
            lines = [one for one in daemon.said if "connections_without_profile" in one]
            return len(lines) == 1 and '{"forgotten": 1}' in lines[0]

        await eventually(is_told)
