"""Which reply subjects get an answer: inboxes alone, unless configured otherwise.

The daemon may publish where its callers may not. A reply subject that names JetStream's API, a
bucket, somebody's commands or our own subjects would borrow that right (an answer published to
``$KV...`` overwrites a record), so a request that names one counts as having none.
"""

import time
from collections.abc import Sequence

from runtime.logs import log

INBOX_PREFIXES = ("_INBOX.", "_INBOX_", "_R_.")
"""How inboxes begin: NATS clients' own, those with a prefix of their own as ours is, and what a
server puts in place of the inbox of a caller in another account. No client can name the last."""
_BYTES_MAX = 1024
"""An answer's line must be shorter than a server takes, by default 4096 bytes: it ends a connection
for a longer one. A request's line may come by way of a server that takes more."""
_LOG_S = 60.0
_REMEDY = "ask by an inbox, or name the prefix in service.reply_prefixes"


class ReplySubjects:
    """What is allowed, what never is, and how often something else was asked for."""

    def __init__(self, allowed: Sequence[str] = INBOX_PREFIXES) -> None:
        """Allow what begins with one of these."""
        self._allowed = _as_bytes(allowed)
        self._forbidden: tuple[bytes, ...] = (b"$",)
        self._logged_s = -_LOG_S
        self.refused = 0
        """How many requests have counted as having no reply subject."""

    def forbid(self, *prefixes: str) -> None:
        """Refuse what begins with one of these, too, whatever is allowed."""
        self._forbidden += _as_bytes(prefixes)

    def allow(self, reply: bytes) -> bool:
        """Return whether an answer may go to ``reply``; count it if not. Never raises."""
        is_known = reply.startswith(self._allowed) and not reply.startswith(self._forbidden)
        if is_known and len(reply) <= _BYTES_MAX:
            return True
        self.refused += 1
        now_s = time.monotonic()
        if now_s - self._logged_s >= _LOG_S:
            self._logged_s = now_s
            log.warning("reply_subject_refused", refused=self.refused, remedy=_REMEDY)
        return False


def _as_bytes(texts: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(text.encode() for text in texts)
