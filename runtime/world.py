"""Time, ids and the operator's journal: the small ports of ``actors.ports``."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import msgspec
from uuid_utils import uuid7

from actors.circuit import CircuitNews, CircuitState
from domain.events import ProviderTokenRefreshFailed
from runtime.logs import frames_of, log

_uuid = msgspec.msgpack.Decoder(UUID)
_SIXTEEN_BYTES = b"\xc4\x10"
"""What MessagePack puts before them; its decoder makes a UUID of bytes faster than UUID does."""


class SystemClock:
    """Implements ``actors.ports.Clock``."""

    def now(self) -> datetime:
        """Return the time, aware UTC."""
        return datetime.now(UTC)


class Uuid7Ids:
    """Implements ``actors.ports.Ids``."""

    def __iter__(self) -> "Uuid7Ids":
        """Return itself."""
        return self

    def __next__(self) -> UUID:
        """Return a fresh UUIDv7 (RFC 9562 section 5.7)."""
        return _uuid.decode(_SIXTEEN_BYTES + uuid7().bytes)


class LoggingJournal:
    """Implements ``actors.ports.Journal``: counts, and logs without any exception text."""

    def __init__(self) -> None:
        """Start with every count at zero."""
        self.counts: Counter[str] = Counter()
        self._verdicts: Counter[tuple[str, str]] = Counter()
        self.unknown: Callable[[str], None] = lambda _: None
        """Told of the provider whose refresh has an unknown outcome."""

    @property
    def verdicts(self) -> dict[str, dict[str, int]]:
        """How many refreshes have failed, by provider and class of the verdict."""
        found: dict[str, dict[str, int]] = {}
        for (slug, failure_class), failures in self._verdicts.items():
            found.setdefault(slug, {})[failure_class] = failures
        return found

    def refresh_failed(self, event: ProviderTokenRefreshFailed) -> None:
        """Count a verdict, and log the grant that only its user can mend: once, as it ends."""
        self._verdicts[event.provider_slug, str(event.failure_class)] += 1
        if event.needs_user_action:
            log.info(
                "grant_needs_user",
                provider_slug=event.provider_slug,
                connection_id=str(event.connection_id),
                user_id=str(event.user_id),
                code=event.code,
                reason=event.reason,
            )

    def crashed(self, connection_id: UUID, error: Exception) -> None:
        """Log where the actor crashed, not the error's text, which may quote anything."""
        self.counts["crashed"] += 1
        log.error(
            "actor_crashed",
            connection_id=str(connection_id),
            error=type(error).__name__,
            frames=frames_of(error),
        )

    def quarantined(self, connection_id: UUID, quarantine_s: float) -> None:
        """Log that an actor is refused."""
        self.counts["quarantined"] += 1
        log.error("actor_quarantined", connection_id=str(connection_id), quarantine_s=quarantine_s)

    def store_failed(self, connection_id: UUID, cause: str) -> None:
        """Log that a connection's record could not be read."""
        self.counts["store_failed"] += 1
        log.warning("store_failed", connection_id=str(connection_id), cause=cause)

    def dropped(self, connection_id: UUID, commands: int) -> None:
        """Count commands that came too late."""
        self.counts["dropped"] += commands
        log.warning("commands_dropped", connection_id=str(connection_id), commands=commands)

    def events_dropped(self, events: int) -> None:
        """Count events of refused commands that nobody will be told."""
        self.counts["events_dropped"] += events

    def outcome_lost(self, connection_id: UUID) -> None:
        """Log that a provider's answer went with the daemon."""
        self.counts["outcome_lost"] += 1
        log.critical("outcome_lost", connection_id=str(connection_id))

    def outcome_unknown(self, provider_slug: str) -> None:
        """Have it counted; what it means for the grant its record tells."""
        self.unknown(provider_slug)

    def cut_off(self, connection_id: UUID) -> None:
        """Log that a provider's answer was not waited for."""
        self.counts["cut_off"] += 1
        log.error(
            "refresh_cut_off",
            connection_id=str(connection_id),
            consequence="the next start takes its outcome for unknown",
        )

    def client_paused(self, provider_slug: str, code: str, reason: str) -> None:
        """Log once that our configuration for a provider does not work."""
        self.counts["client_paused"] += 1
        log.error("client_paused", provider_slug=provider_slug, code=code, reason=reason)

    def client_resumed(self, provider_slug: str) -> None:
        """Log that a provider takes our configuration again."""
        log.info("client_resumed", provider_slug=provider_slug)

    def circuit_changed(self, news: CircuitNews) -> None:
        """Log that a token endpoint is down, or in order again; the probes in between at debug."""
        match news.state:
            case CircuitState.OPEN if news.probes == 0:
                self.counts["circuit_opened"] += 1
                tell = log.warning
            case CircuitState.CLOSED:
                tell = log.info
            case _:
                tell = log.debug
        tell("circuit_changed", **news._asdict())

    def cannot_unseal(self, connection_id: UUID) -> None:
        """Log that a record's key is missing."""
        self.counts["cannot_unseal"] += 1
        log.error("cannot_unseal", connection_id=str(connection_id))
