"""No secret reaches the log, and no trouble with the log reaches the daemon."""

import io
import json
import logging
import os
import select
import subprocess
import sys
from collections.abc import Callable, Generator
from typing import Any
from uuid import UUID

import pytest
import structlog
from structlog.testing import capture_logs

from actors.circuit import CircuitNews, CircuitState
from domain.credentials import CredentialType, Opaque, Sealed, Secret, Unsealed
from runtime.logs import FewRepeats, configure_logs, hide_secrets, log
from runtime.world import LoggingJournal
from tests.conftest import ROOT

ID = UUID(int=1)
SECRET_VALUES = [
    Secret(b"s3cret"),
    Unsealed(credential_type=CredentialType.OAUTH2, secret=Secret(b"s3cret")),
    Sealed(key_id="k", nonce=b"n", ciphertext=b"s3cret"),
    Opaque(data=b"s3cret"),
]
SECRET_KEYS = [
    "access_token",
    "refresh_token",
    "client_secret",
    "password",
    "secret",
    "token",
    "credentials",
    "encrypted_data",
    "authorization",
    "Authorization",
    "payload",
    "body",
    "ciphertext",
]


@pytest.fixture(autouse=True)
def defaults_afterwards() -> Generator[None]:
    yield
    structlog.reset_defaults()


def test_what_a_library_logs_is_a_line_of_ours_without_its_text(capsys: pytest.CaptureFixture[str]):
    configure_logs(level="debug", as_json=True)
    configure_logs(level="debug", as_json=True)
    library = logging.getLogger("asyncio")

    library.warning("s3cret %s", "s3cret")
    try:
        raise ValueError("s3cret")
    except ValueError:
        library.exception("s3cret")

    text = capsys.readouterr().err
    harmless, wrong = map(json.loads, text.splitlines())
    assert "s3cret" not in text
    assert (harmless["event"], harmless["level"]) == ("library_logged", "debug")
    assert harmless["logger"] == "asyncio"
    assert harmless["where"].startswith("test_logs.py:")
    assert (wrong["level"], wrong["error"]) == ("error", "ValueError")
    assert "test_what_a_library_logs" in wrong["frames"][0]


class Stderr:
    """All that was written so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def getvalue(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Stderr:
    return Stderr(capsys)


def lines(stderr: Stderr) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stderr.getvalue().splitlines()]


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_a_key_that_sounds_secret_shows_nothing(key: str):
    assert hide_secrets(None, "info", {key: "s3cret", "url": "x"}) == {key: "***", "url": "x"}


@pytest.mark.parametrize("value", SECRET_VALUES, ids=lambda value: type(value).__name__)
def test_a_value_of_a_secret_type_shows_nothing(value: object):
    assert hide_secrets(None, "info", {"value": value}) == {"value": "***"}


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("value", SECRET_VALUES, ids=lambda value: type(value).__name__)
def test_nothing_secret_comes_out(stderr: Stderr, value: object, as_json: bool):
    configure_logs(as_json=as_json)

    log.info("event", value=value, token="s3cret")

    assert "s3cret" not in stderr.getvalue()
    assert "***" in stderr.getvalue()


def test_an_event_is_one_line_of_json(stderr: Stderr):
    configure_logs()

    log.warning("event", url="nats://x", count=3, text="two\nlines", other=ID)

    [line] = lines(stderr)
    assert line["timestamp"].endswith("Z")
    del line["timestamp"]
    assert line == {
        "event": "event",
        "level": "warning",
        "url": "nats://x",
        "count": 3,
        "text": "two\nlines",
        "other": "UUID('00000000-0000-0000-0000-000000000001')",
    }


def test_a_terminal_gets_readable_lines(monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    configure_logs()

    log.info("event")

    assert not terminal.getvalue().startswith("{")
    assert "event" in terminal.getvalue()


@pytest.mark.parametrize(
    ("level", "shown"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_a_level_shows_itself_and_what_is_worse(stderr: Stderr, level: str, shown: int):
    configure_logs(level=level, as_json=True)

    log.debug("event")
    log.info("event")
    log.warning("event")
    log.error("event")

    assert len(lines(stderr)) == shown


@pytest.mark.parametrize("as_json", [True, False])
def test_an_exception_is_logged_without_the_locals_of_its_frames(stderr: Stderr, as_json: bool):
    configure_logs(as_json=as_json)

    def fails(hidden: str) -> int:
        return len(hidden) // 0

    try:
        fails("terc3s"[::-1])
    except ZeroDivisionError:
        log.exception("event")

    assert "s3cret" not in stderr.getvalue()
    assert "ZeroDivisionError" in stderr.getvalue()
    if as_json:
        [line] = lines(stderr)
        [raised] = line["exception"]
        assert raised["exc_type"] == "ZeroDivisionError"
        assert all(not frame.get("locals") for frame in raised["frames"])


@pytest.mark.parametrize("as_json", [True, False])
def test_a_log_that_nobody_reads_any_more_is_no_error(
    monkeypatch: pytest.MonkeyPatch, as_json: bool
):
    reader, writer = os.pipe()
    os.close(reader)
    with io.FileIO(writer, "wb") as raw:
        text = io.TextIOWrapper(raw, write_through=True)
        monkeypatch.setattr(sys, "stderr", text)
        configure_logs(as_json=as_json)

        log.error("event")
        text.detach()
        log.error("event")


@pytest.mark.timeout(20)
def test_a_pipe_that_nobody_reads_does_not_stop_the_daemon_and_the_loss_is_told(
    monkeypatch: pytest.MonkeyPatch,
):
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with os.fdopen(writer, "w") as text, os.fdopen(reader, "rb") as reading:
        monkeypatch.setattr(sys, "stderr", text)
        configure_logs(as_json=True)

        for number in range(5000):
            log.error("event", number=number)
        kept = reading.read().splitlines()
        log.error("short")
        after = reading.read()
        log.error("long", text="x" * 10_000)
        cut = reading.read()

    assert 0 < len(kept) < 5000
    assert json.loads(kept[-1])["number"] == len(kept) - 1
    assert after.splitlines()[0] == f"({5000 - len(kept)} lines were lost)".encode()
    assert json.loads(after.splitlines()[1])["event"] == "short"
    assert len(cut) < select.PIPE_BUF
    assert cut.endswith(b"x...\n")


def test_an_event_beyond_the_bound_is_left_out_until_the_period_is_over():
    now_s = 100.0
    repeats = FewRepeats(3, now=lambda: now_s)

    def is_shown(event: str) -> bool:
        try:
            return bool(repeats(None, "warning", {"event": event}))
        except structlog.DropEvent:
            return False

    with capture_logs() as logs:
        assert [is_shown("event") for _ in range(50)] == [True] * 3 + [False] * 47
        assert is_shown("other")
        now_s = 109.9
        assert not is_shown("event")
        assert logs == []
        now_s = 110.1
        assert is_shown("event")

    [told] = logs
    assert told["event"] == "lines_left_out"
    assert told["lines"] == {"event": 48}


def test_what_was_left_out_last_is_told_at_the_end():
    code = """if True:
        from runtime.logs import configure_logs, log
        configure_logs(as_json=True, repeats_max=2)
        for _ in range(5):
            log.warning("event")
    """
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )

    told = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["event"] for line in told] == ["event", "event", "lines_left_out"]
    assert told[-1]["lines"] == {"event": 3}


def test_a_crash_is_told_by_its_type_and_place_and_never_by_its_text():
    def crash() -> None:
        raise ValueError("refresh_token=s3cret")

    journal = LoggingJournal()
    with capture_logs() as logs:
        try:
            crash()
        except ValueError as error:
            journal.crashed(ID, error)

    [entry] = logs
    assert "s3cret" not in str(entry)
    assert entry["error"] == "ValueError"
    assert entry["connection_id"] == str(ID)
    assert entry["frames"][-1].endswith(" crash")
    assert journal.counts == {"crashed": 1}


def test_a_crash_deep_down_is_told_by_its_last_frames_alone():
    def dive(depth: int) -> None:
        if depth == 0:
            raise ValueError
        dive(depth - 1)

    with capture_logs() as logs:
        try:
            dive(50)
        except ValueError as error:
            LoggingJournal().crashed(ID, error)

    assert len(logs[0]["frames"]) == 8


@pytest.mark.parametrize(
    ("tell", "event", "count"),
    [
        (lambda journal: journal.quarantined(ID, 30.0), "actor_quarantined", {"quarantined": 1}),
        (lambda journal: journal.store_failed(ID, "why"), "store_failed", {"store_failed": 1}),
        (lambda journal: journal.dropped(ID, 7), "commands_dropped", {"dropped": 7}),
        (lambda journal: journal.cut_off(ID), "refresh_cut_off", {"cut_off": 1}),
    ],
)
def test_the_journal_counts_and_logs_each_trouble(
    tell: Callable[[LoggingJournal], None], event: str, count: dict[str, int]
):
    journal = LoggingJournal()

    with capture_logs() as logs:
        tell(journal)

    assert [entry["event"] for entry in logs] == [event]
    assert logs[0]["connection_id"] == str(ID)
    assert journal.counts == count


def test_a_circuit_is_a_line_when_it_opens_and_closes_and_each_probe_one_for_who_debugs():
    journal, half = LoggingJournal(), CircuitState.HALF_OPEN
    states = [(CircuitState.OPEN, 0), (half, 0), (CircuitState.OPEN, 1), (half, 1)]

    with capture_logs() as logs:
        for state, probes in [*states, (CircuitState.CLOSED, 1)]:
            journal.circuit_changed(
                CircuitNews("acme", "acme.test", state, "It is down", 7.0, probes, 1.0)
            )

    levels = ["warning", "debug", "debug", "debug", "info"]
    assert [entry["log_level"] for entry in logs] == levels
    assert logs[0] == {
        "event": "circuit_changed",
        "log_level": "warning",
        "provider_slug": "acme",
        "host": "acme.test",
        "state": "open",
        "reason": "It is down",
        "down_s": 7.0,
        "probes": 0,
        "next_probe_s": 1.0,
    }
    assert journal.counts == {"circuit_opened": 1}
