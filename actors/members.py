"""Who is there, and who owns what, as far as is heard: hints only, the ledger decides."""

from typing import NamedTuple

import msgspec

from actors.gate_word import GateWord

HEARTBEAT_S = 1.0
_SUSPECT_BEATS = 2.5
"""After so many heartbeats that did not come nothing is sent to a member that may be dead."""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a member tells of itself."""

    daemon: str
    number: int
    """Counts the sender's heartbeats, from 1."""
    version: str = ""
    owned: dict[int, int] = {}
    """Its partitions, each with the ledger sequence of its claim: the higher one is right.

    0: it is about to claim it.
    """
    asks: bool = False
    """Whether it has just come, and wants to hear the others at once."""
    is_leaving: bool = False
    """Whether it gives its partitions away."""
    is_gone: bool = False
    """Whether this is its last one."""
    heard: dict[str, int] = {}
    """The number of the last heartbeat that it has taken in of each of the others."""
    load: int = 0
    """Commands in flight."""
    gates: GateWord | None = None
    """What it says of the providers' limits."""
    report: dict[str, object] = {}
    """What ``status`` shows of it."""


class Present(NamedTuple):
    """A member as it is known."""

    beat: Heartbeat
    age_s: float
    """How long ago the heartbeat was heard."""


class _Member:
    """One of the others."""

    def __init__(self, beat: Heartbeat, heard_s: float) -> None:
        self.beat = beat
        self.heard_s = heard_s


class Members:
    """The other members of a cluster, by their heartbeats; single-threaded."""

    def __init__(self, me: str, *, timeout_s: float) -> None:
        """Know of nobody.

        Args:
            me: This daemon, whose own heartbeats are passed over.
            timeout_s: After it a member that is not heard is gone.
        """
        self._me = me
        self._timeout_s = timeout_s
        self._others: dict[str, _Member] = {}
        self._claimed: dict[int, tuple[int, str]] | None = None
        """Of each partition the latest claim that is told; None: to be reckoned anew."""

    def released(self, beat: Heartbeat) -> list[int]:
        """Return which partitions a member owned until this heartbeat of its."""
        known = self._others.get(beat.daemon)
        return [] if known is None else [one for one in known.beat.owned if one not in beat.owned]

    def heard(self, beat: Heartbeat, now_s: float) -> bool:
        """Take in a heartbeat; return whether it tells anything about who owns what."""
        if beat.daemon == self._me:
            return False
        known = self._others.get(beat.daemon)
        if known is not None and beat.number <= known.beat.number:
            return False
        self._claimed = None
        if beat.is_gone:
            return self._others.pop(beat.daemon, None) is not None
        self._others[beat.daemon] = _Member(beat, now_s)
        return known is None or (known.beat.owned, known.beat.is_leaving) != (
            beat.owned,
            beat.is_leaving,
        )

    def forget_silent(self, hears_s: float) -> list[str]:
        """Forget who was not heard for ``timeout_s``: return them.

        Args:
            hears_s: Until when this daemon could hear: one that was stopped, or cut off, knows
                nothing of the others since.
        """
        silent = [
            daemon
            for daemon, one in self._others.items()
            if one.heard_s < hears_s - self._timeout_s
        ]
        for daemon in silent:
            self._claimed = None
            del self._others[daemon]
        return silent

    @property
    def beats(self) -> list[Heartbeat]:
        """The last heartbeat of each of the others, by their ids."""
        return [self._others[daemon].beat for daemon in sorted(self._others)]

    @property
    def heard_numbers(self) -> dict[str, int]:
        """The number of the last heartbeat of each of the others."""
        return {daemon: one.beat.number for daemon, one in self._others.items()}

    def have_heard(self, number: int) -> bool:
        """Whether all others have taken in this daemon's heartbeat of that number."""
        return all(beat.heard.get(self._me, 0) >= number for beat in self.beats)

    def present(self, now_s: float) -> list[Present]:
        """Return the others, by their ids."""
        return [
            Present(one.beat, max(now_s - one.heard_s, 0.0))
            for _, one in sorted(self._others.items())
        ]

    @property
    def may_own(self) -> list[str]:
        """The others that partitions may be given to."""
        return [beat.daemon for beat in self.beats if not beat.is_leaving]

    @property
    def owner_of(self) -> dict[int, str]:
        """Who of the others owns or takes what; where two say so, whose claim came later."""
        return {partition: daemon for partition, (_, daemon) in self._claims().items()}

    def who_serves(self, partition: int) -> str | None:
        """Return who of the others takes commands for it: who is about to claim hears none yet."""
        claim_seq, daemon = self._claims().get(partition, (0, ""))
        return daemon if claim_seq else None

    def _claims(self) -> dict[int, tuple[int, str]]:
        if self._claimed is None:
            claims = self._claimed = {}
            for beat in self.beats:
                for partition, claim_seq in beat.owned.items():
                    known = claims.get(partition, (0, ""))
                    claims[partition] = max(known, (claim_seq, beat.daemon))
        return self._claimed

    def is_suspect(self, daemon: str, now_s: float) -> bool:
        """Whether a member has let heartbeats pass: what is sent to it may never be answered."""
        one = self._others.get(daemon)
        return one is None or now_s - one.heard_s > _SUSPECT_BEATS * HEARTBEAT_S
