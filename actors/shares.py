"""How the members of a cluster share what a provider allows, so that no limit is passed.

A gate's limits are *split* where there is enough of them: each of M members has an M-th of the
slots, of the rate and of its burst, and what is left over goes to some of them, by a hash of the
gate, so that no member has it at all gates. Where there are fewer slots than members, or a
smaller burst, one member at a time has the gate *whole*. Which one is settled by mutual exclusion
(below), without a leader and without comparing clocks; it keeps the gate while nobody else asks,
and else gives it on when it has let somebody in and has had it for a second.

Who is inside stays inside when a share becomes smaller. What a member has *above* its share it
tells, and the others let so many fewer in. So at a gate

- no more than its limit N is under way while the same members hear each other, however late, and
  a gate that goes from one to another takes its rate with it;
- a member that comes adds its share at most, until the others have heard of it;
- a member that dies takes its requests with it. They may go on at the provider for their time,
  and the others do not wait for that: N is exceeded by at most what the dead one had, its share.

2 N is reached at most, for one such change within the time of a request. Whoever waits gets in:
those who ask for a gate have it in the order in which they asked. A member that does not answer
for ``_ACKNOWLEDGED_S_MAX`` is taken not to hear us; then each side may let N in.

Source:
    L. Lamport, "Time, Clocks, and the Ordering of Events in a Distributed System", 1978: asking
    is numbered, and whoever has the lowest number has the gate once everybody else has heard it.
"""

import math
from binascii import crc32
from collections.abc import Callable

import anyio

from actors.gate_word import GateKey, GateWord, SharedGate
from actors.rate import Rate
from actors.turnstile import Turnstile
from domain.profile import ProviderProfile

GATES_MAX = 100
"""At how many gates a member asks for the whole at a time, and how many it tells of that it has
too much of."""
_KEPT_S = 1.0
"""How long a member that has a whole gate keeps it, while others ask."""
_ACKNOWLEDGED_S_MAX = 5.0


class _Other:
    """Another member, by its last word."""

    def __init__(self, word: GateWord) -> None:
        self.word = word
        self.heard_s = anyio.current_time()
        self.gates = {gate.key: gate for gate in word.gates}


class Shares:
    """This member's part of all gates, and who the others are; single-threaded."""

    def __init__(self, me: str, news: Callable[[], None]) -> None:
        """Be alone: everything is ours.

        Args:
            me: This daemon's id.
            news: Called when the others should soon hear our next word.
        """
        self.me = me
        self.news = news
        self.number = 0
        """How many words were told."""
        self.others: dict[str, _Other] = {}
        self.place = 0
        """Ours among all members, by their ids."""
        self.asking: dict[GateKey, Share] = {}
        """The shares that ask for a whole gate, or have it."""
        self._shares: dict[GateKey, Share] = {}
        self._asked = 0

    @property
    def members(self) -> int:
        """How many there are, with this one."""
        return len(self.others) + 1

    def of(self, key: GateKey, profile: ProviderProfile, stile: Turnstile, *rates: Rate) -> "Share":
        """Return this member's share of a new gate, kept until ``drop``."""
        share = self._shares[key] = Share(self, key, profile, stile, rates)
        if self.others:
            share.split()
        return share

    def drop(self, key: GateKey) -> None:
        """Forget a gate that nothing is under way at; if it was ours as a whole, it is given up."""
        self._shares.pop(key, None)
        self.asking.pop(key, None)

    def next_asked(self) -> int:
        """Return a number above all that were seen."""
        self._asked += 1
        return self._asked

    def tell(self) -> tuple[int, dict[str, int], tuple[SharedGate, ...]]:
        """Return the number of our next word, whom we have heard, and what we have of gates."""
        shares = list(self._shares.values()) if self.others else []
        for share in shares:
            share.review()
        self.number += 1
        told = [one for share in shares if (one := share.told()) is not None]
        told.sort(key=lambda one: (not one.asked, -one.over))
        heard = {daemon: other.word.number for daemon, other in self.others.items()}
        return self.number, heard, tuple(told[: 2 * GATES_MAX])

    def heard(self, daemon: str, word: GateWord) -> bool:
        """Take in the word of another member; False: it is our own, or older than the last."""
        known = self.others.get(daemon)
        if daemon == self.me or (known is not None and word.number <= known.word.number):
            return False
        self._asked = max([self._asked, *(gate.asked for gate in word.gates)])
        other = self.others[daemon] = _Other(word)
        before = {} if known is None else known.gates
        if known is None:
            self._resplit()
        else:
            for key in {*before, *other.gates, *self.asking}:
                if (share := self._shares.get(key)) is not None:
                    share.update()
        if any(one.asked and one.asked != _asked(before, key) for key, one in other.gates.items()):
            # It has the gate when everybody has told that they heard this.
            self.news()
        return True

    def gone(self, daemon: str) -> None:
        """Share with one member fewer."""
        if self.others.pop(daemon, None) is not None:
            self._resplit()

    def _resplit(self) -> None:
        self.place = sum(daemon < self.me for daemon in self.others)
        for share in self._shares.values():
            share.split()


class Share:
    """This member's part of one gate."""

    def __init__(
        self,
        shares: Shares,
        key: GateKey,
        profile: ProviderProfile,
        stile: Turnstile,
        rates: tuple[Rate, ...],
    ) -> None:
        """Have all of it.

        Args:
            shares: Who the others are.
            key: The gate.
            profile: Its limits.
            stile: Lets in so many as the share is.
            rates: What goes in and what goes out; none where the profile has no rate.
        """
        self._shares = shares
        self._key = key
        self._limits = (profile.max_concurrency, profile.rate_per_s, profile.burst)
        self._stile = stile
        self._rates = rates
        self._hash = crc32("\n".join(key).encode())
        self._part = profile.max_concurrency
        """How many slots are ours where the gate is split."""
        self._is_whole = False
        """Whether one member at a time has it."""
        self._asked = self._asked_in = 0
        """Our number among those who ask, and the word that tells it; 0: we do not."""
        self._asked_s = self._had_s = -math.inf
        self._has_it = False
        self._entered = 0
        """How many had entered when we came to have it."""
        self._told_over = 0
        self._slots = self._part

    @property
    def over(self) -> int:
        """How many are inside above our share."""
        part = self._part
        if self._is_whole:
            part = self._limits[0] if self._has_it else 0
        return max(self._stile.inside - part, 0)

    def adopt(self, profile: ProviderProfile, *rates: Rate) -> None:
        """Share other limits from now on; who is inside stays."""
        self._limits = (profile.max_concurrency, profile.rate_per_s, profile.burst)
        self._rates = rates
        self.split()
        self._stile.resize(self._slots)

    def split(self) -> None:
        """Reckon with the members that there are now."""
        slots, per_s, burst = self._limits
        members = self._shares.members
        scarce = slots if per_s is None else min(slots, burst)
        self._is_whole = scarce < members
        self._stile.moved = self._moved if self._is_whole else None
        self._part = self._part_of(slots)
        if not self._is_whole:
            self._give_up()
        if per_s is not None:
            for rate in self._rates:
                if self._is_whole:
                    rate.become(per_s, burst)
                else:
                    rate.become(per_s / members, self._part_of(burst))
        self._wish()
        self.update(rates_changed=per_s is not None)

    def update(self, *, rates_changed: bool = False) -> None:
        """Let in as many as we may now."""
        part = self._part
        if self._is_whole:
            self._look()
            part = self._limits[0] if self._has_it else 0
        slots = part - sum(gate.over for gate in self._theirs().values())
        if slots != self._slots or rates_changed:
            self._slots = slots
            self._stile.resize(slots)

    def review(self) -> None:
        """Ask for the gate where that is due, and give it up where we do not need it."""
        if not self._is_whole:
            return
        if self._asked and not self._stile.waiting and not (self._has_it and self._stile.inside):
            self._give_up()
        self._wish()
        self.update()

    def told(self) -> SharedGate | None:
        """Return what the others must know of it, or None."""
        self._told_over = self.over
        rates = self._rates if self._is_whole else ()
        ahead_s = max((rate.ahead_s for rate in rates), default=0.0)
        if not self._asked and not self._told_over and not ahead_s:
            return None
        return SharedGate(key=self._key, asked=self._asked, over=self._told_over, ahead_s=ahead_s)

    def _part_of(self, limit: int) -> int:
        members, place = self._shares.members, self._shares.place
        return limit // members + ((place + self._hash) % members < limit % members)

    def _theirs(self) -> dict[str, SharedGate]:
        """Return what the others have of it."""
        others = self._shares.others.items()
        return {who: gate for who, one in others if (gate := one.gates.get(self._key)) is not None}

    def _moved(self) -> None:
        """Somebody must wait, or has left."""
        self._wish()
        self.update()
        if self.over < self._told_over:
            self._shares.news()

    def _wish(self) -> None:
        """Ask for the whole gate where somebody waits."""
        shares = self._shares
        if not self._is_whole or self._asked or not self._stile.waiting:
            return
        if len(shares.asking) < GATES_MAX:
            shares.asking[self._key] = self
            self._asked, self._asked_in = shares.next_asked(), shares.number + 1
            self._asked_s = anyio.current_time()
            shares.news()

    def _look(self) -> None:
        """See whether we have the gate, and whether to give it on."""
        now_s = anyio.current_time()
        has_it = self._is_ours(now_s)
        if has_it and not self._has_it:
            self._had_s, self._entered = now_s, self._stile.entered
            for other in self._shares.others.values():
                if (gate := other.gates.get(self._key)) is not None:
                    for rate in self._rates:
                        rate.used_until(other.heard_s + gate.ahead_s)
        self._has_it = has_it
        if not has_it or not any(gate.asked for gate in self._theirs().values()):
            return
        was_used = self._stile.entered != self._entered and now_s - self._had_s >= _KEPT_S
        if was_used or not self._stile.waiting:
            self._give_up()
            self._wish()
            self._shares.news()

    def _is_ours(self, now_s: float) -> bool:
        """Whether we have the gate: all others have heard that we ask, and nobody is before us."""
        if not self._asked:
            return False
        shares, is_patient = self._shares, now_s < self._asked_s + _ACKNOWLEDGED_S_MAX
        for daemon, other in shares.others.items():
            theirs = _asked(other.gates, self._key)
            if theirs and (theirs, daemon) < (self._asked, shares.me):
                return False
            if is_patient and other.word.heard.get(shares.me, 0) < self._asked_in:
                return False
        return True

    def _give_up(self) -> None:
        self._asked, self._has_it = 0, False
        self._shares.asking.pop(self._key, None)


def _asked(gates: dict[GateKey, SharedGate], key: GateKey) -> int:
    """Return at which number a member asks for a gate, or 0."""
    gate = gates.get(key)
    return 0 if gate is None else gate.asked
