"""The page says how it is in each state, and whatever is on it is text."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runtime.web.charts import Bar, bars
from runtime.web.health import Check
from runtime.web.html import Markup, element, joined, table
from runtime.web.page import page
from runtime.web.view import Circuit, Failing, Grant, Member, Partition, Provider, Span, View

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ODD = "<b>&\"'"
QUIET = View(
    daemon="d-1",
    version="0.2.0",
    at=NOW,
    uptime_s=90_061.0,
    checks=(Check("nats"),),
    by_status={"active": 1_234},
    providers=(Provider("fake", {"active": 1_234}, 0, 0, 0),),
    refreshes=[Span(NOW + timedelta(minutes=5 * n), n % 3, 0) for n in range(72)],
    due_hours=[7] * 24,
    late_s=0.0,
    needing=(),
    members=(Member("d-1", "0.2.0", "this one", 0.0, 3, (0, 1)),),
    partitions=(Partition(0, "d-1", 9, 0, 0, ()),),
    circuits=(),
    paused=(),
    failing=(),
    without_profile={},
)


def test_a_daemon_that_starts_says_so() -> None:
    assert "The daemon is starting." in page(None)


def test_where_all_is_well_nothing_is_marked() -> None:
    text = page(QUIET)

    for said in (
        "168 looks at connections are due",
        "Looks at connections, by hour: one that is no longer needed counts until its time.",
    ):
        assert said in text
    for said in ("1,234", "up 1 d 1 h", "Nobody is late.", "nats ok", "None that is known."):
        assert said in text
    assert "<title>refreshd: ready</title>" in text
    assert '<span class="state" id="badge">ready</span>' in text
    assert 'class="bad"' not in text
    assert "state bad" not in text


def test_what_is_wrong_is_marked_and_told() -> None:
    text = page(
        QUIET._replace(
            checks=(Check("ledger", "no answer in time"), Check("nats")),
            providers=(Provider("fake", {"active": 1}, 3, 0, 2),),
            late_s=125.0,
            needing=(Grant("c-1", "fake", NOW, "It is over"),),
            partitions=(Partition(0, None, None, None, None, ("ledger: away",)),),
            circuits=(Circuit("fake", "h:1", "half_open", "It broke", 61.0, 0.0),),
            paused=("fake",),
            failing=(Failing("other", 1, "It refused", NOW), Failing("fake", 9, "Down", NOW)),
            without_profile={"nobody-s": 4},
        )
    )

    for said in (
        "<title>refreshd: not ready, with trouble</title>",
        (
            "2 providers in trouble, 10 connections failing, 4 connections never refreshed: "
            "<code>refreshd doctor</code> says what to do."
        ),
        "10 whose last refresh failed: they wait for their next try.",
        "ledger failed",
        "no answer in time",
        "The first one has waited for 2 min 5 s.",
        "3 in all",
        "It is over",
        "nobody",
        "ledger: away",
        "being tried",
        "The client of fake is paused: <code>refreshd doctor</code> says what to do.",
        "other: the last refresh of 1 connection failed at 2026-03-01 12:00:00: It refused.",
        "4 of nobody-s are never refreshed",
        "when one is due",
    ):
        assert said in text
    assert "fake: the last refresh" not in text
    assert text.index('id="trouble"') < text.index("<h2")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"paused": ("fake",)}, "1 provider in trouble: "),
        (
            {"failing": (Failing("other", 6, "It refused", NOW),)},
            "1 provider in trouble, 6 connections failing: ",
        ),
        ({"without_profile": {"nobody-s": 1}}, "1 connection never refreshed: "),
    ],
)
def test_what_is_wrong_at_providers_is_said_first_and_nowhere_that_none_is_down(
    changes: dict[str, Any], line: str
) -> None:
    text = page(QUIET._replace(**changes))

    assert f'<main><p id="trouble" class="bad">{line}' in text
    assert "<title>refreshd: ready, with trouble</title>" in text
    assert ("None is down" in text) == ("without_profile" in changes)


def test_what_is_not_known_yet_is_not_shown_as_none() -> None:
    text = page(QUIET._replace(by_status=None, due_hours=None))

    assert "They are being counted" in text
    assert "How many are due is being counted." in text


def test_whatever_anybody_names_is_text() -> None:
    text = page(
        QUIET._replace(
            daemon=ODD,
            checks=(Check("nats", ODD),),
            providers=(Provider(ODD, {}, 1, 0, 0),),
            needing=(Grant(ODD, ODD, NOW, ODD),),
            members=(Member(ODD, ODD, ODD, 0.0, 0, ()),),
            partitions=(Partition(0, ODD, 1, 1, 1, (ODD,)),),
            circuits=(Circuit(ODD, ODD, ODD, ODD, 0.0, 0.0),),
            paused=(ODD,),
            failing=(Failing(ODD, 1, ODD, NOW),),
            without_profile={ODD: 1},
        )
    )

    assert "<b>&" not in text
    assert text.count("&lt;b&gt;&amp;&quot;&#x27;") >= 15


def test_markup_is_what_was_made_here_and_attributes_cannot_be_left() -> None:
    inside = element("i", "<", title='">')

    assert element("p", inside, "<") == '<p><i title="&quot;&gt;">&lt;</i>&lt;</p>'
    assert joined([Markup("<br>"), "<br>"]) == "<br>&lt;br&gt;"
    assert element("a", hidden=True, id=None, class_="x") == '<a hidden class="x"></a>'
    listed = table("T", ["a", "b"], [["<", "1"]], numbers=["b"])
    assert '<th scope="row" role="rowheader" data-label="a">&lt;</th>' in listed
    assert '<td role="cell" class="number" data-label="b">1</td>' in listed


@pytest.mark.parametrize(
    ("most", "top"), [(0, "1"), (1, "1"), (3, "5"), (77, "100"), (1_200, "2k"), (1_200_000, "2M")]
)
def test_a_chart_ends_at_a_round_number_above_its_bars(most: int, top: str) -> None:
    drawn = bars([Bar("12:00", most, 0), Bar("13:00", 0, most)], says="two bars")

    assert f">{top}</text>" in drawn
    assert drawn.count("<rect") == (2 if most else 0)
    assert 'role="img" aria-label="two bars"' in drawn
