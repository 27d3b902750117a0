"""What a server does not allow is told at once, with who may not do what."""

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import msgspec
import pytest
from structlog.testing import capture_logs

from runtime.nats.client import ArmouredClient
from runtime.nats.errors import (
    CannotConnectError,
    LoginRefusedError,
    NobodyListensError,
    NoRespondersError,
    NotAllowedError,
)
from runtime.nats.link import LinkLimits, Login, open_link
from tests.fakes.clients import PATIENT
from tests.fakes.nats_process import nats_process
from tests.fakes.tcp_proxy import ABANDONS_SOCKETS

pytestmark = ABANDONS_SOCKETS

READER = {
    "user": "reader",
    "password": "pw",
    "permissions": {"publish": ["may.*"], "subscribe": ["_INBOX_reader.>"]},
}
TEN_SECONDS = msgspec.structs.replace(PATIENT, connect_timeout_s=10.0)


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncGenerator[Login]:
    """The login of a user who may publish to ``may.*`` alone."""
    settings = {"authorization": {"users": [READER]}}
    async with nats_process(tmp_path, settings) as server:
        yield Login(url=server.login.url, user="reader", password="pw")


async def test_a_request_that_is_not_allowed_fails_at_once_and_says_who_may_not_publish_what(
    reader: Login,
):
    async with open_link(reader, name="test", limits=PATIENT, inbox_prefix="_INBOX_reader") as link:
        with anyio.fail_after(5), pytest.raises(NotAllowedError) as refused:
            await link.request("May.not.Do", b"", timeout_s=30.0)

        assert link.requests_waiting == 0
        with pytest.raises(NoRespondersError):
            await link.request("may.ask", b"", timeout_s=5.0)
    assert str(refused.value) == "user 'reader' may not publish to May.not.Do"


@pytest.mark.parametrize("is_patient", [True, False])
async def test_an_inbox_that_may_not_be_read_is_told_when_connecting(
    reader: Login, is_patient: bool
):
    with anyio.fail_after(5), pytest.raises(CannotConnectError) as refused:
        async with open_link(reader, name="test", limits=TEN_SECONDS, is_patient=is_patient):
            pass

    assert "user 'reader' may not subscribe to _INBOX." in str(refused.value)


async def test_who_is_not_patient_is_told_at_once_that_nobody_listens_or_lets_him_in(
    reader: Login,
):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = Login(url=f"nats://127.0.0.1:{taken.getsockname()[1]}")
        with anyio.fail_after(5), pytest.raises(NobodyListensError) as silent:
            async with open_link(nobody, name="test", limits=TEN_SECONDS, is_patient=False):
                pass
    stranger = msgspec.structs.replace(reader, password="wrong")
    with anyio.fail_after(5), pytest.raises(CannotConnectError) as refused:
        async with open_link(stranger, name="test", limits=TEN_SECONDS, is_patient=False):
            pass

    assert str(silent.value) == f"cannot connect to {nobody.url}: Connection refused"
    assert "authorization violation" in str(refused.value).lower()
    assert not isinstance(refused.value, NobodyListensError)


async def test_a_login_that_is_refused_is_not_tried_again_by_whoever_waits_for_a_server(
    reader: Login,
):
    stranger = msgspec.structs.replace(reader, password="wrong")

    with capture_logs() as logs, anyio.fail_after(5), pytest.raises(LoginRefusedError) as refused:
        async with open_link(stranger, name="test", limits=TEN_SECONDS):
            pass

    assert str(refused.value).startswith(f"cannot connect to {reader.url}: nats: 'Authorization")
    assert len(logs) <= 2


async def test_a_server_that_is_away_is_told_with_its_url_and_not_at_every_try():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = Login(url=f"nats://127.0.0.1:{taken.getsockname()[1]}")
        limits = LinkLimits(connect_timeout_s=0.5, reconnect_wait_s=0.02)
        with capture_logs() as logs, pytest.raises(NobodyListensError):
            async with open_link(nobody, name="test", limits=limits):
                pass

    assert logs == [
        {
            "event": "nats_error",
            "log_level": "warning",
            "cause": "Connection refused",
            "url": nobody.url,
            "state": "still trying",
        }
    ]


async def test_a_server_that_refuses_was_reached_though_another_one_is_silent(reader: Login):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        servers = f"{reader.url},nats://127.0.0.1:{taken.getsockname()[1]}"
        stranger = msgspec.structs.replace(reader, url=servers, password="wrong")
        with anyio.fail_after(5), pytest.raises(CannotConnectError) as refused:
            async with open_link(stranger, name="test", limits=TEN_SECONDS, is_patient=False):
                pass

    assert not isinstance(refused.value, NobodyListensError)


async def test_a_server_that_hangs_up_was_reached():
    def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Lingering for no time resets the connection.
        client = writer.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as rude:
        login = Login(url=f"nats://127.0.0.1:{rude.sockets[0].getsockname()[1]}")
        with anyio.fail_after(5), pytest.raises(CannotConnectError) as refused:
            async with open_link(login, name="test", limits=TEN_SECONDS, is_patient=False):
                pass

    assert not isinstance(refused.value, NobodyListensError)


async def test_who_is_patient_is_told_the_cause_when_the_time_is_up():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = Login(url=f"nats://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(NobodyListensError, match="Connection refused"):
            async with open_link(nobody, name="test", limits=LinkLimits(connect_timeout_s=0.3)):
                pass


async def test_who_is_patient_is_told_though_the_time_out_s_cancellation_is_lost(
    monkeypatch: pytest.MonkeyPatch,
):
    """As Python 3.11's wait_for does where what it waits for ends in the same instant."""
    is_lost = False

    async def attempt(*_: object) -> None:
        nonlocal is_lost
        try:
            await asyncio.sleep(0.05 if is_lost else 60.0)
        except asyncio.CancelledError:
            if is_lost:
                raise
            is_lost = True
        raise OSError("refused")

    monkeypatch.setattr(ArmouredClient, "_connect_to_server", attempt)
    limits = LinkLimits(connect_timeout_s=0.2, reconnect_wait_s=0.05)
    with anyio.fail_after(5), pytest.raises(CannotConnectError, match="refused"):
        async with open_link(Login(url="nats://127.0.0.1:4"), name="test", limits=limits):
            pass
    assert is_lost


async def test_a_link_that_cannot_be_opened_does_not_wait_for_what_nats_py_cannot_close(
    monkeypatch: pytest.MonkeyPatch,
):
    async def close(_: object) -> None:
        await asyncio.sleep(60.0)

    monkeypatch.setattr(ArmouredClient, "close", close)
    limits = LinkLimits(connect_timeout_s=0.2, reconnect_wait_s=0.05)
    login = Login(url="nats://127.0.0.1:4")
    with anyio.fail_after(5), pytest.raises(CannotConnectError):
        async with open_link(login, name="test", limits=limits):
            pass
