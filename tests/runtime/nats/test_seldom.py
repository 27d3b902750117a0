"""What is away for long is told at once, and seldom from then on."""

from structlog.testing import capture_logs

from runtime.nats.seldom import Seldom


def test_each_cause_is_told_at_once_and_once_in_ten_seconds_from_then_on():
    now_s = 0.0
    seldom = Seldom(now=lambda: now_s)

    with capture_logs() as logs:
        for now_s in (0.0, 1.0, 9.9, 10.0, 19.9):
            seldom.warn("away", "one", url="u")
            seldom.warn("away", f"other at {now_s}")

    assert [line["cause"] for line in logs if line["cause"] == "one"] == ["one"] * 2
    assert len(logs) == 2 + 5
    assert logs[0] == {"event": "away", "log_level": "warning", "cause": "one", "url": "u"}


def test_no_more_than_some_causes_are_remembered_and_the_oldest_is_forgotten_first():
    seldom = Seldom(now=lambda: 0.0)

    with capture_logs() as logs:
        for number in range(65):
            seldom.warn("away", str(number))
        seldom.warn("away", "64")
        seldom.warn("away", "0")

    assert [line["cause"] for line in logs] == [*map(str, range(65)), "0"]
