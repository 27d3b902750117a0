"""The grant book: what was granted, which refresh token is live, and who presented what, when.

Draws nothing and reads no clock but the one it is given. A grant's history is capped, and yet
a spent refresh token is always recognised: a token names its place (see ``tokens``).

Source: RFC 6749 sections 5 and 6; RFC 9700 section 4.14.2 (rotation and reuse detection).
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec

from runtime.fake_provider.quirks import Quirks, Rotation
from runtime.fake_provider.stats import Stats
from runtime.fake_provider.tokens import Place, TokenMint, fingerprint

HISTORY_MAX = 16
"""How many refresh tokens of a grant are remembered one by one."""
TIMES_MAX = 8
"""How many presentations of one refresh token are remembered one by one; all are counted."""
GRANTS_MAX = 500_000


class RevocationCause(StrEnum):
    """Why a grant ended."""

    REUSE = "refresh_token_reuse"
    ADMIN = "admin"
    CLIENT = "client_revocation"
    """By RFC 7009."""
    LIFETIME = "grant_lifetime"
    IDLE = "grant_idle"


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """What a refresh gave. Never shows its tokens."""

    grant_id: str
    access_token: str
    refresh_token: str | None
    """The new one; None where the presented one is kept."""
    presented: str
    expires_at: float

    def __repr__(self) -> str:
        """Show the grant only."""
        return f"Issued({self.grant_id})"


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Why a token request was refused (RFC 6749 section 5.2)."""

    code: str
    description: str
    status: int = 400
    headers: dict[str, str] = {}


class Presentations(msgspec.Struct):
    """What is known about one refresh token, by its fingerprint."""

    count: int = 0
    in_flight: int = 0
    last: list[dict[str, Any]] = []
    """The latest ones: ``at`` (epoch seconds) and ``outcome``."""


class _Spent(msgspec.Struct):
    """A refresh token that was exchanged."""

    at: float
    issued: Issued
    successors: list[int]


class Grant:
    """One grant of one user to one client."""

    def __init__(self, grant_id: str, subject: str, client_id: str, now_s: float) -> None:
        """Begin at generation 0, with no token yet."""
        self.id = grant_id
        self.subject = subject
        self.client_id = client_id
        self.created_at = now_s
        self.refreshed_at = now_s
        self.expires_at = now_s
        """When the newest access token ends."""
        self.generation = 0
        """How many refreshes were done."""
        self.revoked: RevocationCause | None = None
        self.revoked_at: float | None = None
        self.last_access = 0
        self.last_serial = 0
        self.live: dict[int, int] = {}
        """Refresh tokens that may be presented, and how often each was."""
        self.spent: dict[int, _Spent] = {}
        self.access: dict[int, tuple[float, float]] = {}
        """Access tokens: when issued, when they end."""
        self.presentations: dict[str, Presentations] = {}

    def seen(self, token_fingerprint: str) -> Presentations:
        """Return the presentations of one refresh token, forgetting the oldest beyond the cap."""
        found = self.presentations.get(token_fingerprint)
        if found is None:
            found = self.presentations[token_fingerprint] = Presentations()
            _cap(self.presentations, HISTORY_MAX)
        return found

    def state(self) -> dict[str, Any]:
        """Return what ``GET /grants/{id}`` shows; no token is in it."""
        return {
            "id": self.id,
            "subject": self.subject,
            "client_id": self.client_id,
            "generation": self.generation,
            "revoked": self.revoked is not None,
            "reason": self.revoked,
            "revoked_at": self.revoked_at,
            "created_at": self.created_at,
            "refreshed_at": self.refreshed_at,
            "expires_at": self.expires_at,
            "live_refresh_tokens": len(self.live),
            "presentations": {
                name: {"count": seen.count, "in_flight": seen.in_flight, "last": seen.last}
                for name, seen in self.presentations.items()
            },
        }


class GrantBook:
    """All grants, and the rules of exchanging their refresh tokens."""

    def __init__(self, *, clock: Callable[[], float], key: bytes, stats: Stats) -> None:
        """Start empty.

        Args:
            clock: Epoch seconds; need not be the world's.
            key: Signs the tokens.
            stats: Where reuses and revocations are counted.
        """
        self._clock = clock
        self._mint = TokenMint(key)
        self._stats = stats
        self._grants: dict[str, Grant] = {}
        self._last_id = 0

    def __len__(self) -> int:
        """Return how many grants there are."""
        return len(self._grants)

    def create(
        self,
        subject: str = "user",
        *,
        client_id: str,
        expires_in: float | None = None,
        quirks: Quirks | None = None,
    ) -> Issued:
        """Create a grant, as if its user had just consented.

        Args:
            subject: Whose it is; for people.
            client_id: To whom it is granted; nobody else may present its tokens.
            expires_in: How long the first access token is good; ``lifetime_s`` without it.
            quirks: What applies to it.

        Raises:
            OverflowError: There are too many grants.
        """
        if len(self._grants) >= GRANTS_MAX:
            raise OverflowError("too many grants; POST /reset forgets them")
        quirks = quirks or Quirks()
        now_s = self._clock()
        self._last_id += 1
        grant = Grant(f"g{self._last_id}", subject, client_id, now_s)
        self._grants[grant.id] = grant
        lifetime_s = quirks.lifetime_s if expires_in is None else expires_in
        return self._issue(grant, quirks, presented="", lifetime_s=lifetime_s)

    def get(self, grant_id: str) -> Grant | None:
        """Return a grant."""
        return self._grants.get(grant_id)

    def find(self, refresh_token: str) -> Grant | None:
        """Return the grant that a refresh token belongs to, live or not."""
        place = self._mint.read("rt", refresh_token)
        return None if place is None else self._grants.get(place.grant_id)

    def clear(self) -> None:
        """Forget every grant; their tokens are unknown from now on."""
        self._grants.clear()

    def presented(self, grant: Grant, refresh_token: str) -> dict[str, Any]:
        """Write down that a refresh token has arrived, and return the line to complete.

        The line's ``outcome`` says "received" until the caller changes it; ``answered`` must
        follow.
        """
        seen = grant.seen(fingerprint(refresh_token))
        if seen.count:
            self._stats.double_presentations += 1
        if seen.in_flight:
            self._stats.concurrent_presentations += 1
        seen.count += 1
        seen.in_flight += 1
        line: dict[str, Any] = {"at": self._clock(), "outcome": "received"}
        seen.last.append(line)
        del seen.last[:-TIMES_MAX]
        return line

    def answered(self, grant: Grant, refresh_token: str) -> None:
        """Write down that a presentation is over."""
        seen = grant.presentations.get(fingerprint(refresh_token))
        if seen is not None and seen.in_flight:
            seen.in_flight -= 1

    def refresh(self, refresh_token: str, *, client_id: str, quirks: Quirks) -> Issued | Refused:
        """Exchange a refresh token (RFC 6749 section 6).

        A spent one ends the whole grant, unless the quirks say otherwise (quirks 20 and 21).
        """
        place = self._mint.read("rt", refresh_token)
        grant = None if place is None else self._grants.get(place.grant_id)
        if place is None or grant is None:
            self._stats.unknown_tokens += 1
            return _dead(quirks, "The refresh token is unknown.")
        if grant.client_id != client_id:
            return _dead(quirks, "The refresh token was issued to another client.")
        self._age(grant, quirks)
        if grant.revoked is not None:
            return _dead(quirks, "The grant is revoked or has expired.")
        if place.serial in grant.live:
            return self._exchange(grant, place.serial, refresh_token, quirks)
        return self._present_again(grant, place.serial, refresh_token, quirks)

    def revoke(self, grant: Grant, cause: RevocationCause) -> None:
        """End a grant: its refresh tokens and access tokens are no good any more."""
        if grant.revoked is None:
            grant.revoked = cause
            grant.revoked_at = self._clock()
            grant.live.clear()
            grant.access.clear()

    def revoke_token(self, token: str, *, client_id: str) -> bool:
        """Revoke what a client hands back (RFC 7009 section 2.1), and return whether it was its.

        A refresh token ends the grant, an access token only itself.
        """
        grant = self.find(token)
        if grant is not None and grant.client_id == client_id:
            self.revoke(grant, RevocationCause.CLIENT)
            return True
        place = self._mint.read("at", token)
        grant = None if place is None else self._grants.get(place.grant_id)
        if place is None or grant is None or grant.client_id != client_id:
            return False
        return grant.access.pop(place.serial, None) is not None

    def accepts(self, access_token: str) -> bool:
        """Return whether an access token opens the protected resource now (RFC 6750)."""
        return self.settled_s(access_token) is not None

    def settled_s(self, access_token: str) -> float | None:
        """Return how long ago a good access token was issued; None where it is not good."""
        place = self._mint.read("at", access_token)
        grant = None if place is None else self._grants.get(place.grant_id)
        if place is None or grant is None or place.serial not in grant.access:
            return None
        issued_at, expires_at = grant.access[place.serial]
        now_s = self._clock()
        return now_s - issued_at if now_s < expires_at else None

    def _exchange(
        self, grant: Grant, serial: int, refresh_token: str, quirks: Quirks
    ) -> Issued | Refused:
        """Exchange a live refresh token."""
        window_s = quirks.refresh_window_s
        if window_s is not None and self._clock() < grant.expires_at - window_s:
            text = "Rate limit exceeded: access_token not expired"
            return Refused(code="access_denied", description=text)
        grant.live[serial] += 1
        rotates = quirks.rotation is not Rotation.NON_ROTATING
        rotates = rotates and grant.live[serial] >= quirks.rotate_every
        issued = self._issue(grant, quirks, presented=refresh_token, rotates=rotates)
        grant.generation += 1
        if rotates:
            del grant.live[serial]
            grant.spent[serial] = _Spent(self._clock(), issued, [grant.last_serial])
            _cap(grant.spent, HISTORY_MAX)
        return issued

    def _present_again(
        self, grant: Grant, serial: int, refresh_token: str, quirks: Quirks
    ) -> Issued | Refused:
        """Judge a refresh token that is spent."""
        spent = grant.spent.get(serial)
        if spent is not None and self._is_in_grace(grant, spent, quirks):
            self._stats.grace_answers += 1
            if quirks.grace_answer == "same":
                return spent.issued
            issued = self._issue(grant, quirks, presented=refresh_token)
            spent.successors.append(grant.last_serial)
            grant.generation += 1
            return issued
        self._stats.reuses_detected += 1
        if quirks.reuse_revokes:
            self._stats.families_revoked += 1
            self.revoke(grant, RevocationCause.REUSE)
        return _dead(quirks, "The refresh token has been used before.")

    def _issue(
        self,
        grant: Grant,
        quirks: Quirks,
        *,
        presented: str,
        rotates: bool = True,
        lifetime_s: float | None = None,
    ) -> Issued:
        """Make a new access token, and a new refresh token if it ``rotates``."""
        now_s = self._clock()
        grant.last_access += 1
        number = grant.last_access
        expires_at = now_s + (quirks.lifetime_s if lifetime_s is None else lifetime_s)
        if quirks.old_access_token_dies:
            grant.access.clear()
        grant.access[number] = (now_s, expires_at)
        _cap(grant.access, HISTORY_MAX)
        grant.expires_at = expires_at
        grant.refreshed_at = now_s
        place = Place(grant.id, number)
        if quirks.access_token_format == "jwt":  # noqa: S105 -- a format's name
            access_token = self._mint.mint_jwt(place, issued_at=now_s, expires_at=expires_at)
        else:
            access_token = self._mint.mint("at", place)
        refresh_token = None
        if rotates:
            grant.last_serial += 1
            grant.live[grant.last_serial] = 0
            _cap(grant.live, HISTORY_MAX)
            refresh_token = self._mint.mint("rt", Place(grant.id, grant.last_serial))
        return Issued(
            grant_id=grant.id,
            access_token=access_token,
            refresh_token=refresh_token,
            presented=presented,
            expires_at=expires_at,
        )

    def _is_in_grace(self, grant: Grant, spent: _Spent, quirks: Quirks) -> bool:
        """Return whether a spent token may still be presented.

        Once a successor was presented the client evidently has it, so the grace is over.
        """
        return (
            quirks.rotation is Rotation.GRACE
            and self._clock() - spent.at <= quirks.grace_s
            and all(grant.live.get(serial) == 0 for serial in spent.successors)
        )

    def _age(self, grant: Grant, quirks: Quirks) -> None:
        """End a grant whose time is over."""
        now_s = self._clock()
        lifetime_s, idle_s = quirks.grant_lifetime_s, quirks.grant_idle_s
        if lifetime_s is not None and now_s >= grant.created_at + lifetime_s:
            self.revoke(grant, RevocationCause.LIFETIME)
        elif idle_s is not None and now_s >= grant.refreshed_at + idle_s:
            self.revoke(grant, RevocationCause.IDLE)


def _dead(quirks: Quirks, description: str) -> Refused:
    """Return the refusal of a refresh token that is no good (quirk 18)."""
    return Refused(
        code=quirks.dead_code,
        description=quirks.dead_description or description,
        status=quirks.dead_status,
    )


def _cap(entries: dict[Any, Any], size_max: int) -> None:
    """Forget the oldest entry beyond the cap."""
    if len(entries) > size_max:
        del entries[next(iter(entries))]
