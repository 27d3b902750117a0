"""Settings for a test's streams."""

from typing import Any

from runtime.ledger.stream_configs import StreamSettings


def settings_of(partitions: int | None, **fields: Any) -> StreamSettings:
    """Return settings for so many partitions on one server; ``fields`` are what a test is about."""
    usual: dict[str, Any] = {
        "prefix": "refreshd.v1",
        "replicas": 1,
        "record_bytes_max": 200_000,
        "event_age_s_max": 3600,
        "event_bytes_max": -1,
        "event_duplicate_window_s": 120,
    }
    return StreamSettings(partitions=partitions, **usual | fields)
