"""What a client repeats within its caller's time, under which id, and what it says at the end."""

import asyncio
import logging
import signal
from collections.abc import AsyncGenerator
from itertools import pairwise
from pathlib import Path
from typing import Any

import nats
import pytest
from refreshd_client import (
    DatabaseError,
    NoAnswerError,
    NoDaemonError,
    NotConnectedError,
    OverloadedError,
    ProviderUnavailableError,
    Refreshd,
    RefreshdError,
    TryAgainError,
    asking,
)
from refreshd_client.errors import _BY_CODE

from domain.result import FailureCode
from runtime.cli.asking import _EXIT_CODES, EXIT_TRY_AGAIN
from runtime.nats.link import Login
from tests.fakes.daemon_process import external_nats
from tests.fakes.eventually import eventually
from tests.fakes.scripted_daemon import OK, SILENCE, ScriptedDaemon, failure, scripted_daemon

pytestmark = pytest.mark.anyio
ID = "7f9c24e8-3b12-4f0a-9d56-1c2b3a4d5e6f"
SOON = 0.01


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def scripted(nats_login: Login) -> AsyncGenerator[ScriptedDaemon]:
    async with scripted_daemon(nats_login) as daemon:
        yield daemon


@pytest.fixture
async def refreshd(nats_login: Login, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Refreshd]:
    """A client in a hurry."""
    monkeypatch.setattr(asking, "_PAUSE_S", 0.02)
    async with Refreshd(
        nats_login.url,
        user=nats_login.user,
        password=nats_login.password,
        try_timeout_s=0.2,
        keep_s=0.0,
    ) as client:
        yield client


def test_each_code_of_the_daemon_is_a_kind_of_error_and_repeated_where_it_may_help():
    assert set(_BY_CODE) == set(FailureCode)
    repeated = {code for code, kind in _BY_CODE.items() if issubclass(kind, TryAgainError)}
    assert repeated == {code for code in FailureCode if _EXIT_CODES[code] == EXIT_TRY_AGAIN}


@pytest.mark.parametrize(
    "code", [code for code in FailureCode if _EXIT_CODES[code] == EXIT_TRY_AGAIN]
)
async def test_what_may_work_later_is_asked_again_under_the_same_id(
    scripted: ScriptedDaemon, refreshd: Refreshd, code: str
):
    scripted.answers = [failure(code, retry_after_s=SOON), failure(code, retry_after_s=SOON), OK]
    await scripted.listen()

    await refreshd.revoke(ID, "because")

    assert len(scripted.asked) == 3
    assert len({one.message_id for one in scripted.asked}) == 1
    assert scripted.asked[0].message_id
    assert {str(one.body) for one in scripted.asked} == {"{'reason': 'because'}"}
    assert {one.subject for one in scripted.asked} == {f"connection.{ID}.revoke"}


@pytest.mark.parametrize(
    "code",
    [*(code for code in FailureCode if _EXIT_CODES[code] != EXIT_TRY_AGAIN), "NEW_CODE"],
)
async def test_what_stays_as_it_is_is_asked_once(
    scripted: ScriptedDaemon, refreshd: Refreshd, code: str
):
    scripted.answers = [failure(code, needs_user_action=True, detail="so it is")]
    await scripted.listen()

    with pytest.raises(RefreshdError) as told:
        await refreshd.revoke(ID)

    assert type(told.value) is _BY_CODE.get(code, RefreshdError)
    assert told.value.code == code
    assert (told.value.needs_user_action, told.value.detail) == (True, "so it is")
    assert len(scripted.asked) == 1


async def test_a_missing_answer_is_asked_for_again_under_the_same_id(
    scripted: ScriptedDaemon, refreshd: Refreshd
):
    scripted.answers = [SILENCE, OK]
    await scripted.listen()

    await refreshd.disconnect(ID, ID)

    first, second = scripted.asked
    assert first.message_id == second.message_id
    assert first.timeout_ms == 200
    assert second.at_s - first.at_s >= 0.2


async def test_each_command_has_an_id_of_its_own_and_a_read_has_none(
    scripted: ScriptedDaemon, refreshd: Refreshd
):
    await scripted.listen()

    await refreshd.synced(ID)
    await refreshd.expire(ID)
    await refreshd.expire(ID, message_id="mine")
    with pytest.raises(RefreshdError):
        await refreshd.get(ID)
    with pytest.raises(RefreshdError):
        await refreshd.token(ID)

    ids = [one.message_id for one in scripted.asked]
    assert ids[2:] == ["mine", None, None]
    assert len({*ids[:2]}) == 2


async def test_nobody_is_waited_for_before_the_time_that_was_told(
    scripted: ScriptedDaemon, refreshd: Refreshd
):
    scripted.answers = [failure("PROVIDER_UNAVAILABLE", retry_after_s=0.3), OK]
    await scripted.listen()

    await refreshd.synced(ID)

    first, second = scripted.asked
    assert second.at_s - first.at_s >= 0.3


async def test_pauses_grow_with_each_repeat(scripted: ScriptedDaemon, refreshd: Refreshd):
    scripted.answers = [*[failure("OVERLOADED", retry_after_s=0.02)] * 4, OK]
    await scripted.listen()

    await refreshd.synced(ID)

    at_s = [one.at_s for one in scripted.asked]
    pauses = [later - earlier for earlier, later in pairwise(at_s)]
    assert all(
        pause >= least for pause, least in zip(pauses, (0.02, 0.04, 0.08, 0.16), strict=True)
    )


async def test_a_pause_that_is_longer_than_the_callers_time_is_told_at_once(
    scripted: ScriptedDaemon, refreshd: Refreshd
):
    scripted.answers = [failure("PROVIDER_UNAVAILABLE", retry_after_s=30.0)]
    await scripted.listen()
    began_s = asyncio.get_running_loop().time()

    with pytest.raises(ProviderUnavailableError) as told:
        await refreshd.token(ID, timeout_s=20.0)

    assert told.value.retry_after_s == 30.0
    assert asyncio.get_running_loop().time() - began_s < 10.0
    assert len(scripted.asked) == 1


async def test_who_is_told_that_it_goes_on_asks_with_all_the_time_that_is_left(
    scripted: ScriptedDaemon, refreshd: Refreshd
):
    scripted.answers = [failure("REFRESH_IN_PROGRESS", retry_after_s=SOON), OK]
    await scripted.listen()

    with pytest.raises(RefreshdError):
        await refreshd.token(ID, timeout_s=8.0)

    first, second = scripted.asked
    assert first.timeout_ms == 200
    assert 5000 < second.timeout_ms < 8000


async def test_the_daemon_is_told_less_time_than_is_waited(
    scripted: ScriptedDaemon, refreshd: Refreshd
):
    scripted.answers = [SILENCE]
    await scripted.listen()
    began_s = asyncio.get_running_loop().time()

    with pytest.raises(NoAnswerError):
        await refreshd.get(ID, timeout_s=0.1)

    (only,) = scripted.asked
    assert only.timeout_ms <= 75
    assert asyncio.get_running_loop().time() - began_s >= 0.1


@pytest.mark.parametrize(
    ("answers", "is_unknown"),
    [
        ([failure("OVERLOADED", retry_after_s=9.0)], False),
        ([failure("DATABASE_ERROR", retry_after_s=9.0)], True),
        ([SILENCE, failure("OVERLOADED", retry_after_s=9.0)], True),
        (
            [
                failure("DATABASE_ERROR", retry_after_s=SOON),
                failure("SHUTTING_DOWN", retry_after_s=9.0),
            ],
            True,
        ),
    ],
    ids=["not done", "not known", "no answer before", "not known before"],
)
async def test_an_error_says_whether_the_command_may_be_done_and_by_which_id_to_repeat_it(
    scripted: ScriptedDaemon, refreshd: Refreshd, answers: list[Any], is_unknown: bool
):
    scripted.answers = answers
    await scripted.listen()

    with pytest.raises((OverloadedError, DatabaseError, TryAgainError)) as told:
        await refreshd.revoke(ID, timeout_s=1.0)

    assert told.value.may_be_done is is_unknown
    assert told.value.message_id == scripted.asked[0].message_id


async def test_a_daemon_that_comes_within_the_callers_time_is_waited_for(
    scripted: ScriptedDaemon, refreshd: Refreshd
):
    waiting = asyncio.create_task(refreshd.synced(ID))
    await asyncio.wait({waiting}, timeout=0.2)
    assert not waiting.done()
    await scripted.listen()
    await waiting

    assert len(scripted.asked) == 1


async def test_no_daemon_within_the_callers_time_is_told_with_the_subject(refreshd: Refreshd):
    began_s = asyncio.get_running_loop().time()

    with pytest.raises(NoDaemonError, match=f"refreshd.v1.connection.{ID}.revoke") as told:
        await refreshd.revoke(ID, timeout_s=1.5)

    assert 0.1 < asyncio.get_running_loop().time() - began_s < 5.0
    assert not told.value.may_be_done


async def test_a_connection_that_is_lost_is_told_at_once_and_asked_over_anew(tmp_path: Path):
    async with external_nats(tmp_path) as server:
        login = Login(url=server.url)
        async with Refreshd(server.url, try_timeout_s=30.0, timeout_s=40.0) as refreshd:
            async with scripted_daemon(login) as first:
                first.answers = [SILENCE]
                await first.listen()
                waiting = asyncio.create_task(refreshd.synced(ID))
                await eventually(lambda: bool(first.asked))
            await server.stop(signal.SIGKILL)
            await server.start()
            async with scripted_daemon(login) as second:
                await second.listen()
                await waiting

    assert second.asked[0].message_id == first.asked[0].message_id


async def test_a_server_that_is_away_is_one_warning_and_one_more_when_it_goes_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG, logger="refreshd_client")

    def told(level: int) -> int:
        return sum(one.levelno == level and "Errno" in one.message for one in caplog.records)

    async with (
        external_nats(tmp_path) as server,
        Refreshd(server.url, reconnect_time_wait=0.02) as refreshd,
    ):
        for outages in (1, 2):
            await server.stop(signal.SIGKILL)
            tries = told(logging.DEBUG)
            await eventually(lambda tries=tries: told(logging.DEBUG) > tries + 2)
            assert told(logging.WARNING) == outages
            await server.start()
            link = refreshd._link
            assert link is not None
            await eventually(lambda link=link: link._client.is_connected)


async def test_what_is_asked_without_a_connection_is_not_sent_later(tmp_path: Path):
    async with external_nats(tmp_path) as server, Refreshd(server.url) as refreshd:
        await server.stop(signal.SIGKILL)
        with pytest.raises(NotConnectedError):
            await refreshd.synced(ID, timeout_s=0.3)
        await server.start()
        async with scripted_daemon(Login(url=server.url)) as daemon:
            await daemon.listen()
            await refreshd.expire(ID)

    assert [one.subject for one in daemon.asked] == [f"connection.{ID}.expire"]


async def test_a_connection_that_nats_py_has_ended_for_good_is_made_anew(
    scripted: ScriptedDaemon, refreshd: Refreshd
):
    await scripted.listen()
    await refreshd.synced(ID)
    assert refreshd._link is not None
    ended = refreshd._link._client

    assert ended._transport is not None
    ended._transport.write(b"NO SUCH OPERATION\r\n")
    await eventually(lambda: ended.is_closed)
    await asyncio.gather(*(refreshd.expire(ID) for _ in range(5)))

    assert len(scripted.asked) == 6
    await refreshd.close()
    with pytest.raises(NotConnectedError, match="not open"):
        await refreshd.synced(ID)


async def test_a_connection_of_the_callers_own_is_used_and_stays_open(
    nats_login: Login, scripted: ScriptedDaemon
):
    await scripted.listen()
    client = await nats.connect(nats_login.url, user=nats_login.user, password=nats_login.password)
    try:
        async with Refreshd(nats=client) as refreshd:
            link = refreshd._link
            await refreshd.open()
            assert refreshd._link is link
            await refreshd.synced(ID)
        with pytest.raises(NotConnectedError, match="not open"):
            await refreshd.synced(ID)

        assert client.is_connected
        async with refreshd:
            await refreshd.synced(ID)
    finally:
        await client.close()

    assert len(scripted.asked) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"servers": "nats://x", "context": "y"},
        {"timeout_s": 0.0},
        {"try_timeout_s": 61.0},
        {"keep_s": -1.0},
        {"tokens_max": -1},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]):
    with pytest.raises(ValueError, match=r"give one of|must be"):
        Refreshd(**options)


async def test_a_client_that_is_not_open_says_what_to_do():
    with pytest.raises(NotConnectedError, match="async with"):
        await Refreshd("nats://127.0.0.1").token(ID)
