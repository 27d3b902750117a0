"""What a NATS user may do, by the server's own word, and what of its part it may not."""

from collections.abc import Iterable, Sequence

import msgspec

from runtime.nats.errors import LinkError
from runtime.nats.link import NatsLink

USER_INFO = "$SYS.REQ.USER.INFO"
_TIMEOUT_S = 1.0


class _Subjects(msgspec.Struct):
    allow: Sequence[str] | None = None
    deny: Sequence[str] | None = None

    def cover(self, subject: str) -> bool:
        """Whether all that ``subject``, which may have wildcards, matches is allowed."""
        is_allowed = self.allow is None or any(covers(one, subject) for one in self.allow)
        return is_allowed and not any(overlaps(one, subject) for one in self.deny or ())


class Permissions(msgspec.Struct):
    """A user's, as a server has them; absent is: everything."""

    publish: _Subjects = msgspec.field(default_factory=_Subjects)
    subscribe: _Subjects = msgspec.field(default_factory=_Subjects)


class _User(msgspec.Struct):
    permissions: Permissions | None = None


class _Answer(msgspec.Struct):
    data: _User | None = None


async def own_permissions(link: NatsLink) -> Permissions | None:
    """Return what we may; None: the server does not say, or we may not ask."""
    try:
        answer = await link.request(USER_INFO, b"", timeout_s=_TIMEOUT_S)
        user = msgspec.json.decode(answer.data, type=_Answer).data
    except (LinkError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return None if user is None else user.permissions or Permissions()


def lacking(
    permissions: Permissions, *, publish: Iterable[str], subscribe: Iterable[str]
) -> list[str]:
    """Return what is needed and not allowed, as ``publish SUBJECT`` and ``subscribe SUBJECT``."""
    return [
        *(f"publish {one}" for one in publish if not permissions.publish.cover(one)),
        *(f"subscribe {one}" for one in subscribe if not permissions.subscribe.cover(one)),
    ]


def covers(allowed: str, subject: str) -> bool:
    """Whether each subject that ``subject`` matches is matched by ``allowed``, too."""
    parts, wanted = allowed.split(" ", 1)[0].split("."), subject.split(".")
    for place, part in enumerate(parts):
        if part == ">":
            return len(wanted) > place
        if place >= len(wanted) or wanted[place] == ">":
            return False
        if part not in ("*", wanted[place]):
            return False
    return len(parts) == len(wanted)


def overlaps(one: str, other: str) -> bool:
    """Whether there is a subject that both match."""
    ours, theirs = one.split(" ", 1)[0].split("."), other.split(".")
    for place, part in enumerate(ours):
        if place >= len(theirs):
            return False
        if ">" in (part, theirs[place]):
            return True
        if part != theirs[place] and "*" not in (part, theirs[place]):
            return False
    return len(ours) == len(theirs)
