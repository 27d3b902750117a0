"""What of a stream's configuration must never be otherwise, each setting with its reason."""

from collections.abc import Mapping

from runtime.ledger.subjects import event_markers, events_filter, ledger_subject

ABSENT: dict[str, object] = {
    "allow_direct": False,
    "mirror_direct": False,
    "persist_mode": "default",
    "allow_atomic": False,
    "allow_rollup_hdrs": False,
    "no_ack": False,
    "max_age": 0,
    "deny_purge": False,
}
"""What a setting is when the server leaves it out."""

BUCKET_LAWS: Mapping[str, tuple[object, str]] = {
    "storage": ("file", "connections would not survive a restart"),
    "retention": ("limits", "records would vanish"),
    "max_msgs_per_subject": (1, "a record is one message"),
    "max_age": (0, "records would vanish"),
    "discard": ("new", "old records would vanish when the bucket is full"),
    "allow_direct": (True, "a record and the marker are read together"),
    "allow_atomic": (True, "checkpoints are written in batches"),
    "persist_mode": ("default", "acknowledged writes could be lost"),
    "no_ack": (False, "writes would not be acknowledged"),
}
"""A bucket's."""


def event_laws(prefix: str, tag: str) -> Mapping[str, tuple[object, str]]:
    """Return the event stream's."""
    return {
        "subjects": (
            [events_filter(prefix), event_markers(tag)],
            "it must capture our events and no others",
        ),
        "storage": ("file", "events would not survive a restart"),
        "persist_mode": ("default", "acknowledged events could be lost"),
        "allow_direct": (True, "a connection's events are read from its end"),
        "allow_atomic": (True, "events are stored in batches"),
        "allow_rollup_hdrs": (True, "a marker takes the place of the one before it"),
        "no_ack": (False, "events would not be acknowledged"),
    }


def ledger_laws(partition: int, tag: str) -> Mapping[str, tuple[object, str]]:
    """Return a ledger's."""
    return {
        "subjects": ([ledger_subject(partition, tag)], "it must capture our groups and no others"),
        "storage": ("file", "what was acknowledged would not survive a restart"),
        "retention": ("limits", "what was acknowledged would vanish"),
        "discard": ("new", "what was acknowledged would vanish when the ledger is full"),
        "max_age": (0, "what was acknowledged would vanish"),
        "persist_mode": ("default", "what was acknowledged could be lost"),
        "no_ack": (False, "appends would not be acknowledged"),
        "deny_purge": (False, "replaced credentials could not be removed"),
    }
