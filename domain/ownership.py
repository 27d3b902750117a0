"""Which member of a cluster should own which partition: rendezvous hashing, nobody far ahead.

Every member works it out by itself from who is there, and all that see the same members agree.
Where they do not, they claim in turn: that costs time and never data (DESIGN.md section 8).
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

GIVEN_AT_ONCE_MAX = 2
"""How many partitions a member hands over at a time."""


class Moves(NamedTuple):
    """What a member is to do now."""

    take: list[int]
    """Nobody who is heard owns them."""
    give: list[int]
    """Others who are there should own them; the ones that are being handed over come first."""


def owners(partitions: int, members: Collection[str]) -> list[str]:
    """Return who should own each partition.

    No member has over one more than another, and where one comes or goes few others' partitions
    move: each goes to the member that has most weight for it, as long as that one has room.

    Args:
        partitions: How many there are.
        members: Whoever may own any; at least one.
    """
    assert members
    share, extra = divmod(partitions, len(members))
    owned: Counter[str] = Counter()
    found: dict[int, str] = {}
    by_weight = sorted(
        (-_weight(member, partition), partition, member)
        for member in members
        for partition in range(partitions)
    )
    for _, partition, member in by_weight:
        if partition in found or owned[member] > share:
            continue
        if owned[member] == share:
            if not extra:
                continue
            extra -= 1
        owned[member] += 1
        found[partition] = member
    return [found[partition] for partition in range(partitions)]


def moves(
    me: str,
    *,
    owned: Collection[int],
    giving: Collection[int],
    owner_of: Mapping[int, str],
    should: list[str],
) -> Moves:
    """Return what a member takes and gives now.

    Args:
        me: The member.
        owned: What it owns.
        giving: What of that it is handing over.
        owner_of: Who else is heard to own what.
        should: Who should own each partition; see ``owners``.
    """
    take = [
        partition
        for partition, member in enumerate(should)
        if member == me and partition not in owned and partition not in owner_of
    ]
    others = [one for one in sorted(owned) if should[one] != me and one not in giving]
    room = max(GIVEN_AT_ONCE_MAX - len(giving), 0)
    return Moves(take, [*sorted(giving), *others[:room]])


def _weight(member: str, partition: int) -> int:
    digest = hashlib.blake2b(f"{partition} {member}".encode(), digest_size=8).digest()
    return int.from_bytes(digest)
