"""Every metric that a daemon has, and their text as Prometheus reads it.

No label has more values than the configuration, the contract or a bound of ours has: verbs,
outcomes, partitions, and names of providers as ``runtime.ledger.provider_names`` bounds them.

Source:
    https://prometheus.io/docs/practices/naming/
"""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from runtime.web.figures import Figures, Histogram

PREFIX = "refreshd_"


class Described(NamedTuple):
    """What a metric is. A counter's name ends in ``_total`` where it is read."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    says: str
    labels: tuple[str, ...] = ()


METRICS = (
    Described("gauge", "build_info", "Always 1; the label tells the version.", ("version",)),
    Described("gauge", "ready", "Whether /readyz passes, as far as is known without asking NATS."),
    Described("gauge", "nats_connected", "Whether the connection to NATS is there."),
    Described("counter", "nats_reconnects", "How often it was lost and made anew."),
    Described(
        "counter",
        "commands",
        "Commands answered, by their outcome: ok, or the code of the error.",
        ("verb", "outcome"),
    ),
    Described(
        "counter",
        "command_seconds",
        "Time from the arrival of commands to their answers, in all.",
        ("verb",),
    ),
    Described(
        "counter",
        "commands_forwarded",
        "Commands handed over to the owner of their partition, which answers.",
        ("verb",),
    ),
    Described("gauge", "commands_in_flight", "Commands not answered yet."),
    Described("gauge", "token_callers", "Callers of token not answered yet."),
    Described("counter", "mailbox_refusals", "Commands that a connection's full mailbox refused."),
    Described("counter", "answers_dropped", "Answers that could not be sent in time."),
    Described("gauge", "actors", "Connections in memory."),
    Described("gauge", "flights", "Refreshes at providers under way or waiting for their turn."),
    Described(
        "counter",
        "refreshes",
        "Refreshes at providers, by outcome: succeeded, or the class of the verdict.",
        ("provider", "outcome"),
    ),
    Described(
        "counter",
        "outcome_unknown",
        "Failed refreshes after which the refresh token may be spent.",
        ("provider",),
    ),
    Described("counter", "needs_reauth", "Grants found to need their users.", ("provider",)),
    Described(
        "histogram",
        "refresh_life_left_seconds",
        "How long access tokens had to live when a refresh began, failed ones too; 0: had ended.",
        ("provider",),
    ),
    Described(
        "gauge",
        "due_late_seconds",
        "How late the connection is that should have been looked at first.",
    ),
    Described("gauge", "due_waiting", "Connections that are due and wait for their turn."),
    Described("gauge", "due_under_way", "Connections that are being looked at."),
    Described("counter", "appends", "Groups stored in the ledgers."),
    Described("counter", "append_entries", "Connections' entries in them."),
    Described(
        "gauge",
        "view_lag_groups",
        "Groups of a ledger that a view lacks.",
        ("view", "partition"),
    ),
    Described("gauge", "events_lacking", "Events that the event stream lacks."),
    Described("gauge", "unsettled_bytes", "What is in memory because a view lacks it."),
    Described("gauge", "outcomes_held", "Providers' answers that no ledger has taken yet."),
    Described(
        "gauge",
        "connections",
        "Connections of the partitions owned here; absent while they are counted.",
        ("provider", "status"),
    ),
    Described(
        "gauge",
        "connections_failing",
        "Active ones whose last refresh failed, by the class of its verdict.",
        ("provider", "outcome"),
    ),
    Described(
        "gauge",
        "connections_needing_action",
        "Those that somebody must act for, as list --needs-action has them: ended or about to.",
        ("provider",),
    ),
    Described(
        "gauge",
        "connections_without_profile",
        "Active ones that nothing refreshes, for the configuration lacks their provider.",
        ("provider",),
    ),
    Described(
        "gauge", "grants_needing_reauth", "Those that only their users can mend.", ("provider",)
    ),
    Described(
        "gauge",
        "grants_without_refresh_token",
        "Active ones that will end and cannot be refreshed.",
        ("provider",),
    ),
    Described(
        "gauge", "circuits", "Token endpoints that are down, by state.", ("provider", "state")
    ),
    Described("gauge", "clients_paused", "Whether a client of it is paused.", ("provider",)),
    Described("gauge", "partitions", "How many partitions there are."),
    Described("gauge", "partition_owned", "Whether it is owned here.", ("partition",)),
    Described("gauge", "members", "Daemons that are heard, this one with them."),
    Described("counter", "troubles", "What the log tells as trouble, by kind.", ("kind",)),
    Described("gauge", "disk_free_bytes", "Of the embedded server's file system."),
)


class Metrics(Collector):
    """The metrics in a registry of their own."""

    def __init__(self) -> None:
        """Know what the process takes, and no figures yet."""
        self._figures: Figures = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self, figures: Figures) -> bytes:
        """Return figures in Prometheus's text format; for one thread at a time."""
        assert figures.keys() <= {one.name for one in METRICS}
        self._figures = figures
        return generate_latest(self._registry)

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: nothing is measured to register it."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        for one in METRICS:
            yield _family(one, self._figures.get(one.name, {}))


def _family(described: Described, figures: Mapping[tuple[str, ...], float | Histogram]) -> Metric:
    kind, name, says, labels = described
    name = PREFIX + name
    if kind == "histogram":
        family = HistogramMetricFamily(name, says, labels=labels)
        for values, figure in figures.items():
            assert isinstance(figure, Histogram)
            family.add_metric(values, _buckets(figure), figure.total)
        return family
    family_of = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    family = family_of(name, says, labels=labels)
    for values, figure in figures.items():
        assert not isinstance(figure, Histogram)
        family.add_metric(values, figure)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return the cumulative counts, by bound."""
    found: list[tuple[str, float]] = []
    so_far = 0
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    for bound, count in zip(bounds, histogram.counts, strict=True):
        so_far += count
        found.append((bound, so_far))
    return found
