"""SIGHUP: new profiles, secrets, keys and limits, taken all together or not at all.

Everything is read and checked before anything is changed, and what is changed is changed in one
go, between two steps of the event loop: a command sees the old configuration or the new one. A
request that a provider has goes on with the profile and secrets that it was begun with; one that
waits for its turn looks again (``actors.flight``).
"""

import asyncio
import os
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from actors.client_gate import ClientGates
from actors.directory import Directory
from actors.router import Router
from runtime.checking import Checked, Fault, FaultsError, check
from runtime.config import Config
from runtime.due_policy import due_policy
from runtime.gateway.service import CommandService, ServiceLimits
from runtime.ledger.holdings import Holdings
from runtime.ledger.key_rotation import note_joined
from runtime.ledger.ledgers import Ledgers
from runtime.ledger.listing import Listing
from runtime.ledger.sealing import Keyring, KeyringError
from runtime.ledger.streams import Streams, StreamsError
from runtime.logs import frames_of, log, set_level
from runtime.nats.errors import LinkError
from runtime.nats.jetstream_api import JetStreamError
from runtime.nats.link import NatsLink
from runtime.provider.held_profiles import Changes, Profiles
from runtime.provider.token_endpoint import HttpTokenEndpoint
from runtime.service_manager import ServiceManager
from runtime.stream_settings import check_answers

_LEDGER_LIMITS = (
    *("unsettled_bytes_max", "count_records_per_s", "due_held_max", "due_scan_records_per_s"),
    "last_views_s",
)
_SERVICE_LIMITS = tuple(
    name for name in ServiceLimits.__struct_fields__ if name != "credential_bytes_max"
)


class Place(NamedTuple):
    """Where the configuration comes from; the same for each reload."""

    file: Path | None
    data_dir: Path
    nats_url: str | None = None


class Reloadable(NamedTuple):
    """The parts of a daemon that a reload changes."""

    config: Config
    profiles: Profiles
    endpoint: HttpTokenEndpoint
    gates: ClientGates
    keyring: Keyring
    directory: Directory
    service: CommandService
    listing: Listing
    ledgers: Ledgers
    holdings: Holdings
    router: Router
    link: NatsLink
    streams: Streams


class Reloading:
    """Reloads one daemon."""

    def __init__(self, place: Place, parts: Reloadable, manager: ServiceManager) -> None:
        """Reload nothing yet; what is in force is what ``parts`` began with."""
        self._place = place
        self._manager = manager
        self._parts = parts
        self._in_force = flat(parts.config)

    async def run(self, asked: asyncio.Event) -> None:
        """Reload whenever ``asked`` is set, one at a time, until cancelled.

        Args:
            asked: Where it is set during a reload there is one more.
        """
        while True:
            await asked.wait()
            asked.clear()
            self._manager.reloading()
            status = "configuration refused, the log says why; the former one is in force"
            try:
                if await self.reload():
                    status = "reloaded"
            except Exception as error:  # noqa: BLE001 -- the edge: a bug in it ends no daemon
                log.error("reload_crashed", error=type(error).__name__, frames=frames_of(error))
            self._manager.ready(status)

    async def reload(self) -> bool:
        """Take what the configuration says now; False: it was refused, and all is as before.

        Reading is done in a thread, so that a slow disk holds no command up.
        """
        try:
            checked = await asyncio.to_thread(self._checked)
            check_answers(checked.profiles, self._parts.streams)
            keyring = await self._noted(checked)
        except FaultsError as error:
            for fault in error.faults:
                log.error("reload_refused", **fault._asdict(), consequence=_REFUSED)
            return False
        except (KeyringError, StreamsError, LinkError, JetStreamError) as error:
            file = "environment" if self._place.file is None else str(self._place.file)
            log.error("reload_refused", file=file, message=str(error), consequence=_REFUSED)
            return False
        self._take(checked, keyring)
        return True

    def _checked(self) -> Checked:
        file, data_dir, nats_url = self._place
        checked = check(file, data_dir, environment=os.environ, nats_url=nats_url)
        if checked.config.keys != self._parts.config.keys:
            return checked._replace(keyring=None)
        if checked.keyring is None:
            mend = "put it back from a backup: without it nothing that is stored can be opened"
            raise FaultsError([Fault(str(checked.key_file), "", f"no such file: {mend}")])
        return checked

    async def _noted(self, checked: Checked) -> Keyring | None:
        """Return the ring to go on with, its keys noted beside the state; None: as before.

        Raises:
            KeyringError, LinkError, JetStreamError: It cannot be used, or not be noted now.
        """
        parts, keyring = self._parts, checked.keyring
        if keyring is None:
            return None
        try:
            joined = parts.keyring.joined(keyring)
            if kept := sorted(joined.ids - keyring.ids):
                log.warning("keys_kept", keys=kept, until="the next start")
            if (joined.primary, joined.ids) == (parts.keyring.primary, parts.keyring.ids):
                return None
            await note_joined(parts.link, parts.streams.tag, joined)
        except KeyringError as error:
            raise KeyringError(f"{checked.key_file}: {error}") from None
        return joined

    def _take(self, checked: Checked, keyring: Keyring | None) -> None:
        """Change everything, without a pause in between."""
        parts, config = self._parts, checked.config
        changes = parts.profiles.become(checked.profiles)
        parts.ledgers.room.names.admit(changes.added)
        for slug in (*changes.changed, *changes.removed):
            parts.gates.adopt(slug, parts.profiles.get(slug))
        parts.endpoint.reread()
        if any(changes):
            parts.holdings.decide_by(due_policy(parts.profiles))
        added = () if keyring is None else sorted(keyring.ids - parts.keyring.ids)
        if keyring is not None:
            parts.keyring.become(keyring)
        now = flat(config)
        differs = sorted(path for path in now if now[path] != self._in_force[path])
        taken = [path for path in differs if is_live(path)]
        self._in_force |= {path: now[path] for path in taken}
        self._set_limits(config)
        if "log.level" in taken:
            set_level(config.log.level)
        self._tell(changes, taken, list(added))
        if waiting := [path for path in differs if not is_live(path)]:
            log.warning("reload_needs_restart", settings=waiting)

    def _set_limits(self, config: Config) -> None:
        parts = self._parts
        live: tuple[tuple[Any, Any, tuple[str, ...]], ...] = (
            (parts.directory.limits, config.actors, config.actors.__struct_fields__),
            (parts.service.limits, config.service.limits, _SERVICE_LIMITS),
            (parts.ledgers.limits, config.state.limits, _LEDGER_LIMITS),
        )
        for limits, wanted, names in live:
            for name in names:
                setattr(limits, name, getattr(wanted, name))
        parts.directory.older_answers.answers_max = config.actors.older_answers_max
        parts.service.reread_limits()
        parts.listing.records_max = config.service.limits.list_records_max
        parts.ledgers.room.bytes_max = config.state.limits.unsettled_bytes_max
        parts.router.held_max = config.cluster.held_max

    def _tell(self, changes: Changes, taken: list[str], keys: list[str]) -> None:
        for slug in changes.removed:
            log.warning(
                "provider_removed",
                provider_slug=slug,
                consequence="its tokens are served while they live, and then UNKNOWN_PROVIDER",
                remedy=f"put [providers.{slug}] back, and reload",
            )
        log.info(
            "reloaded",
            providers_added=list(changes.added),
            providers_changed=list(changes.changed),
            providers_removed=list(changes.removed),
            settings=taken,
            keys_added=keys,
            primary_key=self._parts.keyring.primary,
        )


_REFUSED = "the former configuration stays in force"


def is_live(path: str) -> bool:
    """Whether a reload takes a setting; providers and keys apart, which it always takes."""
    section, _, name = path.rpartition(".")
    return (
        section == "actors"
        or (section == "service.limits" and name in _SERVICE_LIMITS)
        or (section == "state.limits" and name in _LEDGER_LIMITS)
        or path in ("cluster.held_max", "log.level")
    )


def flat(config: Config) -> dict[str, object]:
    """Return every setting by its path, but for the providers."""

    def walk(struct: msgspec.Struct, path: str) -> dict[str, object]:
        found: dict[str, object] = {}
        for name in struct.__struct_fields__:
            value = getattr(struct, name)
            is_section = isinstance(value, msgspec.Struct)
            found |= walk(value, f"{path}{name}.") if is_section else {f"{path}{name}": value}
        return found

    return {path: value for path, value in walk(config, "").items() if path != "providers"}
