"""Prometheus's own parser reads the metrics, and their names are as its users expect."""

import re

from prometheus_client.parser import text_string_to_metric_families

from runtime.web.figures import Histogram
from runtime.web.metrics import METRICS, Metrics


def test_counts_gauges_and_histograms_are_read_as_they_were_told() -> None:
    text = Metrics().text(
        {
            "refreshes": {("schwab", "succeeded"): 3, ('"odd\\\n', "user"): 1},
            "due_late_seconds": {(): 1.5},
            "refresh_life_left_seconds": {("schwab",): Histogram((0, 30), [1, 2, 3], 400.0)},
        }
    )

    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }

    schwab = ("provider", "schwab")
    assert found["refreshd_refreshes_total", ("outcome", "succeeded"), schwab] == 3
    assert found["refreshd_refreshes_total", ("outcome", "user"), ("provider", '"odd\\\n')] == 1
    assert found[("refreshd_due_late_seconds",)] == 1.5
    life = "refreshd_refresh_life_left_seconds"
    buckets = [found[f"{life}_bucket", ("le", le), schwab] for le in ("0.0", "30.0", "+Inf")]
    assert buckets == [1, 3, 6]
    assert found[f"{life}_sum", schwab] == 400.0
    assert found[f"{life}_count", schwab] == 6
    assert found[("process_start_time_seconds",)] > 0


def test_names_have_their_unit_at_the_end_and_say_what_they_are() -> None:
    assert len({one.name for one in METRICS}) == len(METRICS)
    for one in METRICS:
        assert re.fullmatch("[a-z]+(_[a-z]+)*", one.name)
        assert not re.search(r"_(total|ms|minutes|hours|kib|mib)\b", one.name)
        assert one.says.endswith(".")
        assert set(one.labels) <= {
            *("kind", "outcome", "partition", "provider", "state", "status", "verb", "version"),
            "view",
        }
