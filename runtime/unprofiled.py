"""Tells the log of connections that nothing refreshes, for their provider has no profile."""

import anyio

from runtime.by_provider import without_profile
from runtime.logs import log
from runtime.watching import Watched

_LOOK_S = 2.0


async def warn_of_unprofiled(watched: Watched) -> None:
    """Warn of each provider once, when what is owned here is counted; again after it had one."""
    told: set[str] = set()
    while True:
        partitions = watched.parts.ledgers.partitions.values()
        found = without_profile(partitions, watched.parts.directory.world.providers.profile)
        if found is not None:
            if new := found.keys() - told:
                log.warning(
                    "connections_without_profile",
                    connections={slug: found[slug] for slug in sorted(new)},
                    consequence="they are never refreshed",
                    remedy="add [providers.SLUG] to the configuration, and reload (SIGHUP)",
                )
            told = set(found)
        await anyio.sleep(_LOOK_S)
