"""How the fake provider misbehaves: one named setting per quirk, RFC 6749 as the default.

Numbers are those of PROVIDERS.md section 2. What each setting does, with examples, is in
docs/fake-provider.md.
"""

from collections import deque
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from runtime.fake_provider.canned import Canned

Seconds = Annotated[float, Meta(ge=0)]
Status = Annotated[int, Meta(ge=200, le=599)]
_ENTRIES_MAX = 10_000


class Rotation(StrEnum):
    """What becomes of a refresh token that was presented (quirks 1, 2, 3, 20, 21)."""

    STRICT = "strict"
    """It is spent; presented again, it ends the grant (RFC 9700 section 4.14.2)."""
    GRACE = "grace"
    """It is spent, but for ``grace_s`` it may be presented again."""
    NON_ROTATING = "non_rotating"
    """It stays good."""


class ExpiryShape(StrEnum):
    """How an answer tells when the access token ends (quirks 5, 6 and 7)."""

    SECONDS = "seconds"
    STRING = "string"
    FLOAT = "float"
    MILLISECONDS = "milliseconds"
    EPOCH_S = "epoch_s"
    EPOCH_MS = "epoch_ms"
    ISO8601 = "iso8601"
    DURATION = "duration"
    """HH:MM:SS; the hours may have more than two digits."""
    NULL = "null"
    MISSING = "missing"


class Quirks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting; the defaults are a well-behaved server that rotates strictly."""

    # Rotation and reuse.
    rotation: Rotation = Rotation.STRICT
    rotate_every: Annotated[int, Meta(ge=1)] = 1
    """Only every so many refreshes a new refresh token; in between it is kept (quirk 2)."""
    grace_s: Seconds = 30.0
    """How long after it was spent, and only while no successor was presented (quirk 21)."""
    grace_answer: Literal["same", "new"] = "same"
    """Whether a spent token in its grace is answered by the same pair or by one more pair."""
    reuse_revokes: bool = True
    """Whether a spent token ends the whole grant, or is merely refused (quirk 20)."""
    kept_refresh_token: Literal["absent", "null", "empty", "same"] = "absent"  # noqa: S105 -- a way
    """How an answer without a new refresh token shows it (quirks 1 and 2)."""
    grant_lifetime_s: Seconds | None = None
    """How long a grant lives from its creation, however often it is refreshed (quirk 25)."""
    grant_idle_s: Seconds | None = None
    """After how long without a refresh a grant ends (quirk 26)."""

    # The access token.
    lifetime_s: float = 3600.0
    """How long it is really good, whatever ``expires_in`` says."""
    access_token_format: Literal["opaque", "jwt"] = "opaque"  # noqa: S105 -- a format's name
    old_access_token_dies: bool = False
    """Whether a refresh ends the access tokens before it (quirk 12)."""
    settling_s: Seconds = 0.0
    """How long ``/resource`` answers 401 for a fresh access token (quirk 36)."""
    refresh_window_s: Seconds | None = None
    """A refresh is refused until so long before the access token's end (quirk 10)."""

    # What a success looks like.
    expiry_shape: ExpiryShape = ExpiryShape.SECONDS
    expires_in: bool | int | float | str | UnsetType | None = UNSET
    """Sent as it is in place of what ``expiry_shape`` makes: 0, -1, 1e30, "soon", null."""
    answer_format: Literal["json", "form"] = "json"
    """``form`` is application/x-www-form-urlencoded (quirk 14)."""
    content_type: str | None = None
    """Sent in place of the right one: ``text/html`` (quirk 14)."""
    envelope: str | None = None
    """The whole success is put under this field: ``data`` (quirk 16)."""
    fields: dict[str, str] = {}
    """Where a field goes: {"access_token": "authed_user.access_token"} (quirk 16)."""
    extra_fields: dict[str, Any] = {}
    """Added to each success: {"ok": true, "refresh_token_expires_in": 604800} (quirk 27)."""
    padding_bytes: Annotated[int, Meta(ge=0, le=64 * 1024 * 1024)] = 0
    """So many bytes are added to a success."""

    # What a refusal looks like.
    error_style: Literal["rfc", "github", "slack", "nested"] = "rfc"
    """``github``: status 200; ``slack``: 200 and ok false; ``nested``: inside the text."""
    dead_code: str = "invalid_grant"
    dead_status: Status = 400
    dead_description: str | None = None
    """How a refresh token is refused that is spent, revoked, expired or unknown (quirk 18)."""
    tokens_in_error: bool = False
    """The refresh is done, and its tokens stand in an answer of ``error_status`` (quirk 37)."""
    error_status: Status = 400

    # Another answer than the true one.
    canned: Canned | None = None
    """A known oddity, by name (quirks 13, 15, 17, 33, 34, 35)."""
    status: Status | None = None
    body: str | None = None
    headers: dict[str, str] = {}
    """Added to whatever is answered."""
    override_processes: bool = False
    """Whether the request is processed before the other answer is given (quirk 22)."""

    # Time.
    delay_before_s: Seconds = 0.0
    """Before the request is processed."""
    delay_after_s: Seconds = 0.0
    """After it was processed and before the answer (quirk 24)."""
    jitter_s: Seconds = 0.0
    """Up to so much is added to the first delay, drawn from ``seed``."""
    seed: int = 0
    clock_skew_s: float = 0.0
    """How far the server's clock is ahead: ``Date``, absolute expiry, assertions (quirk 9)."""

    # The connection.
    drop_request: bool = False
    """Closes before the request is processed (quirk 22)."""
    lose_answer: bool = False
    """Processes the request, then closes without an answer (quirk 22)."""
    half_answer: bool = False
    """Announces a longer body than it sends, then closes (quirk 22)."""
    cut_after: str | None = None
    """The field behind which a half answer breaks off, in place of its half."""
    close_with: Literal["fin", "reset"] = "fin"
    fault_chance: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """How likely those three are, drawn from ``seed``."""
    hang: Literal["no", "before", "after"] = "no"
    """Waits for ``POST /release`` before or after the request is processed (quirk 24)."""

    # What a request must look like.
    method_get: bool = False
    """GET is asked for, and POST is refused (quirk 31)."""
    body_format: Literal["form", "json", "query"] = "form"
    client_auth: Literal[
        "any", "client_secret_basic", "client_secret_post", "private_key_jwt", "none"
    ] = "any"
    basic_encoding: Literal["rfc", "raw"] = "rfc"
    """Whether id and secret are form-encoded in a Basic header (quirk 30)."""
    scope_policy: Literal["ignored", "rejected", "required"] = "ignored"
    """What ``scope`` in a refresh means (quirk 29)."""

    # Limits.
    rate_limit: Annotated[int, Meta(ge=0)] | None = None
    """So many token requests of one client per ``rate_period_s`` (quirks 34 and 35)."""
    rate_period_s: Annotated[float, Meta(gt=0)] = 60.0
    rate_limit_status: Status = 429
    retry_after_form: Literal["seconds", "date", "none"] = "seconds"

    # Discovery.
    discovery_issuer: str | None = None
    """The ``issuer`` of the metadata in place of the true one (RFC 8414 section 3.3)."""

    @property
    def overrides(self) -> bool:
        """Whether another answer than the true one is given."""
        return self.canned is not None or self.status is not None or self.body is not None


def merged(base: Quirks, patch: dict[str, Any]) -> Quirks:
    """Return ``base`` with the named settings changed.

    Raises:
        msgspec.ValidationError: One is unknown or has a wrong value; the text names it.
    """
    return msgspec.convert(msgspec.to_builtins(base) | patch, Quirks)


class _Next(msgspec.Struct):
    """A patch for the next requests, of all grants or of one."""

    left: int
    grant_id: str | None
    patch: dict[str, Any]


class QuirkBoard:
    """Which quirks apply to which request: the next ones', over the grant's, over the base."""

    def __init__(self, base: Quirks | None = None) -> None:
        """Start with ``base`` for all."""
        self.base = base or Quirks()
        self._grants: dict[str, dict[str, Any]] = {}
        self._next: deque[_Next] = deque()

    def set(
        self,
        patch: dict[str, Any],
        *,
        grant_id: str | None = None,
        next_requests: int | None = None,
        replace: bool = False,
    ) -> None:
        """Change quirks for all, for one grant, or for the next so many requests of either.

        Args:
            patch: Settings by name.
            grant_id: Only for requests that present a token of this grant.
            next_requests: For so many requests that match, after those asked for before.
            replace: Everything else goes back to its default (or, of a grant, to the base).

        Raises:
            msgspec.ValidationError: One is unknown or wrong; nothing was changed.
            OverflowError: Too many grants or patches are waiting already.
        """
        checked = merged(Quirks(), patch)
        if next_requests is not None:
            self._check_room(len(self._next))
            if next_requests > 0:
                self._next.append(_Next(next_requests, grant_id, patch))
        elif grant_id is not None:
            self._check_room(len(self._grants))
            known = {} if replace else self._grants.get(grant_id, {})
            self._grants[grant_id] = known | patch
        else:
            self.base = checked if replace else merged(self.base, patch)

    def clear(self) -> None:
        """Return to the defaults, for all."""
        self.base = Quirks()
        self._grants.clear()
        self._next.clear()

    def of(self, grant_id: str | None) -> Quirks:
        """Return what applies to a grant, without using up what is for the next requests."""
        patch = self._grants.get(grant_id) if grant_id is not None else None
        return self.base if patch is None else merged(self.base, patch)

    def take(self, grant_id: str | None) -> Quirks:
        """Return what applies to a token request, and count it off."""
        quirks = self.of(grant_id)
        for entry in self._next:
            if entry.grant_id is None or entry.grant_id == grant_id:
                entry.left -= 1
                if entry.left == 0:
                    self._next.remove(entry)
                return merged(quirks, entry.patch)
        return quirks

    @staticmethod
    def _check_room(count: int) -> None:
        if count >= _ENTRIES_MAX:
            raise OverflowError("too many quirks are waiting; POST /reset forgets them")
