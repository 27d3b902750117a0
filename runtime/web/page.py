"""The status page: what a daemon and its cluster are doing, for a person who looks.

It is whole without a script, and with one it renews itself. Read-only: it has no form and no link
that does anything. Times are UTC.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from domain.screen_words import LOOKS_COUNTED, WHO_KNOWS_MORE, circuit_words, trouble_words
from runtime.web.charts import Bar, bars
from runtime.web.html import Markup, element, joined, table
from runtime.web.view import Span, View

STATUSES = ("active", "pending", "expired", "revoked", "failed", "disconnected")
_HOUR_SLOTS = 12
_LATE_S = 60.0
_NOTHING = "-"


def page(view: View | None) -> str:
    """Return the page; None: the daemon has not started yet."""
    if view is None:
        main = element("main", element("p", "The daemon is starting."))
        return _document("starting", _badge("starting"), main)
    bad = [check for check in view.checks if check.trouble]
    state = "not ready" if bad else "ready"
    about = joined(
        [
            _badge(state, is_bad=bool(bad)),
            element("p", f"{view.daemon} · version {view.version} · up {_long(view.uptime_s)}"),
            element("p", "as of ", _moment(view.at, id="as-of"), " UTC"),
        ]
    )
    trouble = _trouble(view)
    main = element("main", trouble, element("div", *_sections(view), class_="cards"))
    return _document(f"{state}, with trouble" if trouble else state, about, main)


def _trouble(view: View) -> Markup:
    """Return the line that says that providers give no tokens, though this daemon be ready."""
    down = (one.provider for one in (*view.circuits, *view.failing))
    said = trouble_words((*view.paused, *down), _failing(view), sum(view.without_profile.values()))
    if not said:
        return Markup()
    return element("p", f"{said}: ", _doctor(), ".", id="trouble", class_="bad")


def _failing(view: View) -> int:
    return sum(one.connections for one in view.failing)


def _doctor() -> Markup:
    return joined([element("code", WHO_KNOWS_MORE), " says what to do"])


def _badge(state: str, *, is_bad: bool = False) -> Markup:
    return element("span", state, class_="state bad" if is_bad else "state", id="badge")


def _moment(at: datetime, **attributes: str) -> Markup:
    return element("time", _time(at), datetime=f"{at:%Y-%m-%dT%H:%M:%SZ}", **attributes)


def _document(state: str, about: Markup, main: Markup) -> str:
    head = element(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        element("title", f"refreshd: {state}"),
        Markup('<link rel="icon" href="data:,"><link rel="stylesheet" href="/page.css">'),
        element("script", src="/page.js", defer=True),
    )
    header = element("header", element("h1", "refreshd"), about)
    footer = element(
        "footer",
        element("p", "Nothing can be changed here. /metrics and /readyz?verbose have more."),
    )
    # Above all and apart: a renewal replaces what is below, and who scrolls sees it, too.
    stale = element("p", "", id="stale", role="status")
    body = element("body", stale, header, main, footer)
    return "<!doctype html>" + element("html", head, body, lang="en")


def _sections(view: View) -> list[Markup]:
    parts: Sequence[tuple[str, Callable[[View], Markup], bool]] = (
        ("State", _state, True),
        ("Connections", _connections, True),
        ("Refreshes in the last six hours", _refreshes, False),
        ("Due in the next 24 hours", _due, False),
        ("Grants that need their users", _needing, True),
        ("Token endpoints in trouble", _circuits, True),
        ("Members", _members, True),
        ("Partitions", _partitions, True),
    )
    found: list[Markup] = []
    for title, inside, is_wide in parts:
        name = title.lower().replace(" ", "-")
        heading = element("h2", title, id=name)
        classes = "wide" if is_wide else None
        found.append(
            element("section", heading, inside(view), aria_labelledby=name, class_=classes)
        )
    return found


def _state(view: View) -> Markup:
    items = [
        element(
            "li",
            element("span", f"{check.name} failed", class_="state bad"),
            f" {check.trouble}",
        )
        if check.trouble
        else element("li", element("span", f"{check.name} ok", class_="state"))
        for check in view.checks
    ]
    return element("ul", *items, class_="checks")


def _connections(view: View) -> Markup:
    if view.by_status is None:
        return _note("They are being counted, or a partition has no owner just now.")
    numbers = [
        element("li", element("b", f"{view.by_status.get(status, 0):,}"), status)
        for status in STATUSES
    ]
    heads = ["provider", *STATUSES, "need users", "refreshed here", "failed here"]
    rows = [
        [
            one.name,
            *(f"{one.by_status.get(status, 0):,}" for status in STATUSES),
            _bad_if(one.needs_user),
            f"{one.succeeded:,}",
            _bad_if(one.failed),
        ]
        for one in view.providers
    ]
    listed = table("Connections by provider and status", heads, rows, numbers=heads[1:])
    never = [
        element(
            "p",
            f"{connections:,} of {slug} are never refreshed: the configuration has no profile "
            f"[providers.{slug}].",
            class_="bad",
        )
        for slug, connections in view.without_profile.items()
    ]
    counts = element("ul", *numbers, class_="numbers")
    return joined([counts, *never, listed if rows else Markup()])


def _refreshes(view: View) -> Markup:
    succeeded = sum(one.succeeded for one in view.refreshes)
    failed = sum(one.failed for one in view.refreshes)
    drawn = bars(
        [Bar(f"{one.begins_at:%H:%M}", one.succeeded, one.failed) for one in view.refreshes],
        says=f"{succeeded} refreshes have succeeded in the last six hours, and {failed} failed",
    )
    hours = [
        view.refreshes[first : first + _HOUR_SLOTS]
        for first in range(0, len(view.refreshes), _HOUR_SLOTS)
    ]
    return joined(
        [
            element(
                "p",
                *(element("span", class_="key good"), f"{succeeded:,} succeeded "),
                *(element("span", class_="key bad"), f"{failed:,} failed"),
                ", at this daemon since its start",
                class_="note",
            ),
            drawn,
            _numbers("refreshes", _hourly(hours)),
        ]
    )


def _hourly(hours: Sequence[Sequence[Span]]) -> Markup:
    rows = [
        [
            f"{hour[0].begins_at:%H:%M}",
            f"{sum(one.succeeded for one in hour):,}",
            f"{sum(one.failed for one in hour):,}",
        ]
        for hour in hours
    ]
    heads = ["hour from", "succeeded", "failed"]
    return table("Refreshes by hour", heads, rows, numbers=heads[1:])


def _due(view: View) -> Markup:
    late = "Nobody is late."
    if view.late_s >= 1:
        late = f"The first one has waited for {_long(view.late_s)}."
    if failing := _failing(view):
        late += f" {failing:,} whose last refresh failed: they wait for their next try."
    note = element("p", late, class_="note bad" if view.late_s >= _LATE_S else "note")
    if view.due_hours is None:
        return joined([note, _note("How many are due is being counted.")])
    labels = [f"+{hour} h" for hour in range(len(view.due_hours))]
    drawn = bars(
        [Bar(label, due) for label, due in zip(labels, view.due_hours, strict=True)],
        says=f"{sum(view.due_hours)} looks at connections are due in the next 24 hours",
    )
    rows = [[label, f"{due:,}"] for label, due in zip(labels, view.due_hours, strict=True)]
    listed = table("Looks by hour", ["from now", "looks"], rows, numbers=["looks"])
    counted = _note(f"Looks at connections, by hour: {LOOKS_COUNTED}.")
    return joined([note, counted, drawn, _numbers("due", listed)])


def _needing(view: View) -> Markup:
    total = sum(one.needs_user for one in view.providers)
    if not total and not view.needing:
        return _note("None that is known.")
    heads = ["connection", "provider", "since (UTC)", "why"]
    rows = [
        [element("code", one.connection_id), one.provider, _moment(one.since), one.reason]
        for one in view.needing
    ]
    listed = table("Grants that need their users", heads, rows) if rows else Markup()
    note = f"{total:,} in all; the last ones of this daemon's partitions are shown. "
    more = element("code", "refreshd list --needs-action")
    return joined([element("p", note, more, " lists them all.", class_="note"), listed])


def _circuits(view: View) -> Markup:
    down = {one.provider for one in view.circuits}
    paused = [
        element("p", f"The client of {one} is paused: ", _doctor(), ".", class_="bad")
        for one in view.paused
    ]
    failing = [
        element(
            "p",
            f"{one.provider}: the last refresh of {one.connections:,} "
            f"connection{'s' * (one.connections != 1)} failed at {_time(one.since)}: {one.reason}.",
            class_="bad",
        )
        for one in view.failing
        if one.provider not in down
    ]
    if not (view.circuits or paused or failing):
        return _note("None is down, paused or failing, as far as this daemon has asked.")
    if not view.circuits:
        return joined([*paused, *failing])
    heads = ["provider", "host", "state", "down for", "tried again in", "why"]
    rows = [
        [
            one.provider,
            one.host,
            circuit_words(one.state),
            _long(one.down_s),
            _long(one.next_probe_s) if one.next_probe_s else "when one is due",
            one.reason,
        ]
        for one in view.circuits
    ]
    return joined([*paused, *failing, table("Token endpoints that are down", heads, rows)])


def _members(view: View) -> Markup:
    heads = ["member", "version", "state", "heard", "load", "partitions"]
    rows = [
        [
            element("code", one.daemon),
            one.version,
            one.state,
            f"{one.heard_s:.1f} s",
            f"{one.load:,}",
            " ".join(map(str, one.partitions)) or _NOTHING,
        ]
        for one in view.members
    ]
    return table("Members", heads, rows, numbers=["heard", "load"])


def _partitions(view: View) -> Markup:
    heads = ["partition", "owner", "ledger", "records lag", "events lag", "troubles"]
    rows = [
        [
            str(one.number),
            element("code", one.owner) if one.owner else element("span", "nobody", class_="bad"),
            *(_NOTHING if n is None else f"{n:,}" for n in (one.ledger_seq, one.records_lag)),
            _NOTHING if one.events_lag is None else f"{one.events_lag:,}",
            "; ".join(one.troubles) or _NOTHING,
        ]
        for one in view.partitions
    ]
    return table("Partitions", heads, rows, numbers=heads[2:5])


def _numbers(name: str, listed: Markup) -> Markup:
    return element("details", element("summary", "in numbers"), listed, id=f"numbers-{name}")


def _note(text: str) -> Markup:
    return element("p", text, class_="note")


def _bad_if(count: int) -> str:
    return element("span", f"{count:,}", class_="bad") if count else "0"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def _long(seconds: float) -> str:
    """Return a duration in its two largest units."""
    left, words = round(seconds), list[str]()
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not words):
            words.append(f"{count} {unit}")
    return " ".join(words[:2])
