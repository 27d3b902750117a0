"""What members of a cluster tell each other of their gates, in each heartbeat."""

from typing import NamedTuple

import msgspec

from domain.profile import FailureClass

ALL_HOSTS = ""
"""In place of a host: whatever host the client asks at."""


class GateKey(NamedTuple):
    """One client at one host, as all members name it."""

    slug: str
    client_id: str
    host: str

    @property
    def of_client(self) -> "GateKey":
        """The client at all of its hosts."""
        return self._replace(host=ALL_HOSTS)


class SharedGate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a member has of one gate that it does not have to itself."""

    key: GateKey
    asked: int = 0
    """Its place among those who ask for the whole gate, or have it; 0: it does not ask."""
    over: int = 0
    """How many requests it has under way above its share."""
    ahead_s: float = 0.0
    """How long its requests have used up the rate for."""


class Closure(msgspec.Struct, frozen=True, kw_only=True):
    """A gate that a member keeps closed."""

    key: GateKey
    failure_class: FailureClass
    reason: str
    left_s: float
    """After how long somebody who has not failed may try; 0: now."""


class GateWord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that a member tells of its gates; it takes the place of what the member told before."""

    number: int
    """Counts the sender's words, from 1."""
    heard: dict[str, int] = {}
    """The number of the last word of each of the others that the sender has heard."""
    gates: tuple[SharedGate, ...] = ()
    closures: tuple[Closure, ...] = ()
