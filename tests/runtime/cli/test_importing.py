"""An import on virtual time: how often a line is sent, and when it is given up."""

from collections.abc import AsyncGenerator, Callable
from typing import Any, cast
from uuid import uuid4

import anyio
import pytest
from trio.testing import MockClock

from domain.result import Failure, FailureCode, Success
from runtime.cli.client import CommandClient
from runtime.cli.importing import GaveUpError, Importer, Rejected
from runtime.cli.line_reader import Line
from runtime.nats.errors import NoAnswerError, NoRespondersError, NotAllowedError
from tests.fakes.import_files import grant, line, numbered, text_of

Answer = Callable[[int], Success[Any] | Failure | Exception]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return ("trio", {"clock": MockClock(autojump_threshold=0)})


def refused(code: FailureCode, **more: Any) -> Failure:
    return Failure(code=code, message="words", **more)


class Daemon:
    """Answers as it is told to, by how often the same command has come."""

    def __init__(self, answer: Callable[[bytes, int], Success[Any] | Failure | Exception]) -> None:
        self.answer = answer
        self.sent: list[tuple[str, str | None, bytes]] = []
        self.at_once = self.at_once_max = 0

    async def send(
        self, subject: str, body: bytes, *, message_id: str | None = None
    ) -> Success[Any] | Failure:
        earlier = sum(one[2] == body for one in self.sent)
        self.sent.append((subject, message_id, body))
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        await anyio.sleep(0.01)
        self.at_once -= 1
        answer = self.answer(body, earlier)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def lines_of(text: bytes) -> AsyncGenerator[Line]:
    for number, part in enumerate(text.splitlines(), 1):
        yield Line(number, part, number)


async def run(daemon: Daemon, text: bytes) -> tuple[Importer, list[Rejected]]:
    rejects: list[Rejected] = []
    importer = Importer(
        credential_bytes_max=65_536, reject=rejects.append, in_flight_max=8, patience_s=60.0
    )
    await importer.run(lines_of(text), cast("CommandClient", daemon))
    return importer, rejects


@pytest.mark.parametrize(
    "answer",
    [
        refused(FailureCode.OVERLOADED),
        refused(FailureCode.DATABASE_ERROR),
        refused(FailureCode.SHUTTING_DOWN),
        refused(FailureCode.TIMED_OUT),
        NoAnswerError("no answer in time"),
    ],
)
async def test_a_line_without_an_outcome_is_sent_again_under_the_same_id(
    answer: Failure | Exception,
):
    daemon = Daemon(lambda _, earlier: answer if earlier < 3 else Success({}))

    importer, rejects = await run(daemon, text_of(line()))

    assert (importer.tally.imported, rejects) == (1, [])
    assert len(daemon.sent) == 4
    assert len({message_id for _, message_id, _ in daemon.sent}) == 1


async def test_a_daemon_that_says_when_to_come_again_is_left_alone_until_then():
    failure = refused(FailureCode.OVERLOADED, retry_after_s=30.0)
    daemon = Daemon(lambda _, earlier: Success({}) if earlier else failure)
    began_s = anyio.current_time()

    await run(daemon, text_of(line()))

    assert anyio.current_time() - began_s >= 30.0


async def test_no_more_lines_are_under_way_than_are_allowed():
    daemon = Daemon(lambda _, __: Success({}))

    importer, _ = await run(daemon, text_of(*numbered(100)))

    assert importer.tally.imported == 100
    assert daemon.at_once_max == 8


async def test_a_line_that_goes_on_failing_while_others_are_taken_is_rejected():
    sick, patient = line(str(uuid4())), numbered(200)

    def answer(body: bytes, _earlier: int) -> Success[Any] | Failure:
        ill = sick["user_id"].encode() in body
        return refused(FailureCode.DATABASE_ERROR, detail="why") if ill else Success({})

    daemon = Daemon(answer)

    async def slowly() -> AsyncGenerator[Line]:
        for number, given in enumerate((sick, *patient), 1):
            await anyio.sleep(1.0)
            yield Line(number, text_of(given), number)

    rejects: list[Rejected] = []
    importer = Importer(
        credential_bytes_max=65_536, reject=rejects.append, in_flight_max=8, patience_s=60.0
    )
    await importer.run(slowly(), cast("CommandClient", daemon))

    assert rejects == [Rejected(1, FailureCode.DATABASE_ERROR, "words: why")]
    assert importer.tally.imported == 200


@pytest.mark.parametrize(
    "answer", [refused(FailureCode.DATABASE_ERROR), NoAnswerError("no answer in time")]
)
async def test_a_daemon_that_takes_nothing_is_given_up_after_a_while(answer: Failure | Exception):
    began_s = anyio.current_time()

    with pytest.raises(GaveUpError, match="DATABASE_ERROR"):
        await run(Daemon(lambda _, __: answer), text_of(*numbered(20)))

    assert 60.0 <= anyio.current_time() - began_s < 80.0


@pytest.mark.parametrize("refreshed_at", [None, "2026-01-01T00:00:00Z"])
async def test_what_the_daemon_has_refreshed_is_kept_however_long_a_lines_token_lives(
    refreshed_at: str | None,
):
    given = line()
    stored = {name: given[name] for name in ("user_id", "provider_id", "provider_slug")}
    stored |= {"status": "active", "generation": 7, "refreshed_at": refreshed_at}
    stored["credentials"] = {"expires_at": "2098-12-31T00:00:00Z"}

    def answer(body: bytes, _earlier: int) -> Success[Any] | Failure:
        is_connect = b"user_id" in body
        return refused(FailureCode.INVALID_TRANSITION) if is_connect else Success(stored)

    daemon = Daemon(answer)

    importer, rejects = await run(daemon, text_of(given))

    assert rejects == []
    was_kept = refreshed_at is not None
    assert (importer.tally.kept, importer.tally.updated) == (was_kept, not was_kept)
    assert len(daemon.sent) == (2 if was_kept else 3)


@pytest.mark.parametrize(
    ("notes", "changes", "becomes"),
    [
        (["no_refresh_token"], {}, "updated"),
        (["no_refresh_token"], {"expires_at": "2098-12-31T23:59:59Z"}, "kept"),
        (["no_refresh_token"], {"expires_at": None}, "kept"),
        (["no_refresh_token"], {"secret": {"access_token": "at"}}, "kept"),
        ([], {}, "kept"),
    ],
    ids=["mended", "earlier", "endless", "not mended", "has one"],
)
async def test_a_line_with_a_refresh_token_mends_what_is_stored_without_one(
    notes: list[str], changes: dict[str, Any], becomes: str
):
    given = line(credentials=grant(**changes))
    stored = {name: given[name] for name in ("user_id", "provider_id", "provider_slug")}
    stored |= {"status": "active", "generation": 1, "notes": notes}
    stored["credentials"] = {"expires_at": grant()["expires_at"]}

    def answer(body: bytes, _earlier: int) -> Success[Any] | Failure:
        is_connect = b"user_id" in body
        return refused(FailureCode.INVALID_TRANSITION) if is_connect else Success(stored)

    importer, rejects = await run(Daemon(answer), text_of(given))

    assert rejects == []
    tally = importer.tally
    assert {"updated": tally.updated, "kept": tally.kept} == {
        "updated": becomes == "updated",
        "kept": becomes == "kept",
    }
    stays_bare = becomes == "kept" and notes != []
    warnings = list(importer.warnings.told())
    assert len(warnings) == stays_bare
    assert all("without a refresh token" in one and "(line 1)" in one for one in warnings)


@pytest.mark.parametrize("error", [NoRespondersError("nobody"), NotAllowedError("may not")])
async def test_where_nobody_listens_or_it_is_not_allowed_nothing_is_tried_again(error: Exception):
    daemon = Daemon(lambda _, __: error)

    with pytest.raises(type(error)):
        await run(daemon, text_of(*numbered(20)))

    assert len(daemon.sent) <= 8
