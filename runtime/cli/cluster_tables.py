"""What ``refreshd status`` shows people: the daemon that answered, then members and partitions."""

from collections.abc import Mapping, Sequence
from typing import Any

from runtime.cli.tables import Column, cell, show_fields, show_row


def show_status(status: Mapping[str, Any]) -> str:
    """Return what ``status`` says: a line a field, and two tables below."""
    cluster = status.get("cluster")
    if cluster is None:
        # Of a daemon of an earlier version.
        return show_fields(status)
    here = {name: value for name, value in status.items() if name != "cluster"}
    ledger = status["ledger"]
    here["ledger"] = {name: ledger[name] for name in ledger if name != "partitions"}
    members = [_member(one) for one in cluster["members"]]
    partitions = [_partition(one) for one in cluster["partitions"]]
    tables = (_table(_MEMBER, members), _table(_PARTITION, partitions))
    return "\n\n".join((show_fields(here), *tables))


_MEMBER = ("MEMBER", "VERSION", "STATE", "HEARD", "LOAD", "PARTITIONS")
_PARTITION = (
    *("PART", "OWNER", "CLAIM", "LEDGER", "TRIMMED"),
    *("RECORDS-LAG", "EVENTS-LAG", "TROUBLES"),
)


def _member(one: Mapping[str, Any]) -> list[str]:
    state = "leaving" if one["is_leaving"] else "there"
    heard = f"{one['heard_s']} s"
    owned = " ".join(one["partitions"]) or "-"
    return [cell(one["daemon"]), cell(one["version"]), state, heard, cell(one["load"]), owned]


def _partition(one: Mapping[str, Any]) -> list[str]:
    names = ("partition", "owner", "claim_seq", "ledger_seq", "trimmed_seq")
    lags = ("records_lag", "events_lag")
    troubles = "; ".join(f"{name}: {cause}" for name, cause in one["troubles"].items())
    return [*(cell(one[name]) for name in (*names, *lags)), cell(troubles or None)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as wide as its cells; the last column takes what room there is."""
    lines = [head, *rows]
    columns = [Column(cells[0], max(map(len, cells))) for cells in zip(*lines, strict=True)]
    columns[-1] = Column(head[-1], 0)
    return "\n".join(show_row(line, columns) for line in lines)
