"""Who else serves a prefix: daemons of version 0.1 know of no others, and are not joined."""

import secrets

from runtime.gateway.subjects import SERVICE_NAME
from runtime.nats.discoverable import discovered
from runtime.nats.link import NatsLink

DRAINING = "draining"
"""The metadata of a daemon that stops, and takes no commands any more."""
CLUSTER = "cluster"
"""The metadata of a daemon that hears the others."""
_ANSWER_S = 0.5


class LivingDaemonError(Exception):
    """A daemon that cannot be joined serves the prefix; the text names it."""


async def refuse_beside_others(
    prefix: str, link: NatsLink, *, inbox_prefix: str, may_join: bool
) -> None:
    """Return when no living daemon serves ``prefix`` that cannot be joined.

    One that does not answer within half a second is taken for dead: the ledger's claim keeps it
    from doing harm.

    Args:
        prefix: Of the commands' subjects.
        link: To the NATS that both use.
        inbox_prefix: The answers come in under ``<inbox_prefix>-start.>``: daemons give no answer
            to their own inbox.
        may_join: Whether daemons of this version may be there.

    Raises:
        LivingDaemonError: One serves it.
        LinkError: Nobody can be asked.
    """
    inbox = f"{inbox_prefix}-start.{secrets.token_urlsafe(12)}"
    answers = await discovered(link, SERVICE_NAME, inbox=inbox, within_s=_ANSWER_S)
    for one in answers:
        if one.metadata.get("prefix") != prefix:
            continue
        daemon = one.metadata.get("daemon", "one without a name")
        if not may_join:
            raise LivingDaemonError(f"daemon {daemon} serves {prefix}: stop it first")
        if CLUSTER not in one.metadata:
            raise LivingDaemonError(
                f"daemon {daemon} of version 0.1 serves {prefix} already: stop it first, or take "
                "its partitions with --take-over"
            )
