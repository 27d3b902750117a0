"""What the README of the client shows is what happens, block by block."""

import ast
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import refreshd_client
from nats.aio.client import Client
from refreshd_client import Refreshd, RefreshdError, errors

from tests.fakes.client_scene import PROVIDER_ID, USER_ID, ClientScene
from tests.fakes.daemon_process import DaemonProcess

pytestmark = pytest.mark.anyio
README = Path(__file__).parent.parent.parent / "clients/python/README.md"


def blocks() -> list[str]:
    """Return the blocks of Python, in order."""
    found = re.findall(r"^( *)```python\n(.*?)^ *```", README.read_text(), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(text) for _, text in found]


async def run(text: str, names: dict[str, Any]) -> None:
    """Run a block as it stands, with ``await`` at its top."""
    code = compile(text, str(README), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(code, names)  # noqa: S307 -- our own
    if inspect.isawaitable(running):
        await running


async def test_a_newcomer_who_types_it_off_gets_what_it_says(
    scene: ClientScene, monkeypatch: pytest.MonkeyPatch, daemon: DaemonProcess
):
    monkeypatch.setenv("REFRESHD_DATA_DIR", str(daemon.data_dir))
    connection_id, grant = await scene.connected()
    another = scene.provider.create()
    asked_again: list[UUID] = []
    names: dict[str, Any] = {
        "connection_id": connection_id,
        "user_id": USER_ID,
        "provider_id": PROVIDER_ID,
        "answer": {
            "access_token": another.access_token,
            "refresh_token": another.refresh_token,
            "expires_in": 3600,
        },
        "ask_to_sign_in": asked_again.append,
        "password": "pw",
        "nats_client": Client(),
    }
    five_lines, headers, connects, fails, places = blocks()

    async with httpx2.AsyncClient() as names["api"]:
        url = f"{scene.provider.url}/resource"
        await run(five_lines.replace("https://api.example.com/me", url), names)
    assert names["me"].status_code == 200

    await run(headers, names)
    assert names["headers"] == {"Authorization": f"Bearer {grant.access_token}"}

    scene.revoke(grant)
    await scene.caller.ask(f"connection.{connection_id}.token", {"force": True})
    await run(fails, names)
    assert asked_again == [USER_ID]

    ended, _ = await scene.connected()
    await scene.refreshd.revoke(ended)
    await run(fails, names | {"connection_id": ended})
    assert asked_again == [USER_ID] * 2

    await run(connects.replace('"example"', '"fake"'), names)
    shown = await scene.refreshd.get(names["connection_id"])
    assert (shown.status, shown.provider_slug) == ("active", "fake")

    await run(places, names)


def test_every_kind_of_error_is_in_its_table_and_can_be_imported():
    told = set(re.findall(r"`(\w+Error)`", README.read_text()))
    kinds = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, RefreshdError)
    }

    assert told == kinds == {name for name in refreshd_client.__all__ if name.endswith("Error")}


def test_every_default_that_it_names_is_the_default():
    text = README.read_text()
    options = inspect.signature(Refreshd).parameters

    assert f"**A token is kept for {options['keep_s'].default:g} seconds at most**" in text
    assert f"of the {options['tokens_max'].default:,} connections" in text
    assert f"`timeout_s` ({options['timeout_s'].default:g})" in text
    assert f"`try_timeout_s` ({options['try_timeout_s'].default:g})" in text
    assert (
        f"min_ttl_s={inspect.signature(Refreshd.token).parameters['min_ttl_s'].default:g}" in text
    )


async def test_a_daemon_that_is_not_there_is_told_with_the_file_and_the_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("REFRESHD_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    with pytest.raises(errors.NotConnectedError) as told:
        await Refreshd().open()

    assert str(told.value) == (
        f"{tmp_path}/refreshd/context.json: No such file or directory; "
        "start a daemon here, or give servers= or context=: a daemon on an external NATS server "
        "writes no such file"
    )
    with pytest.raises(errors.NotConnectedError, match="not open"):
        await Refreshd().token(uuid4())
