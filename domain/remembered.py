"""What a connection remembers of its last commands, so that a repeat gets the same answer.

A command that carries a ``Nats-Msg-Id`` is decided once: its answer is stored in the same entry
as what it changed, and a repeat is answered from there (DESIGN.md section 3).
"""

import msgspec

from domain.connection import ProviderConnection
from domain.decision import AccessToken, ConnectionRef, Reply
from domain.result import Failure, Success

REMEMBERED_MAX = 16
"""How many answers a connection keeps."""


class Remembered(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The answer to one command."""

    message_id: bytes
    """A digest of the caller's ``Nats-Msg-Id``: short, whatever the caller chose."""
    connection: ConnectionRef | None = None
    """The reply value of a connect."""
    failure: Failure | None = None

    @property
    def reply(self) -> Reply:
        """The answer as it was given."""
        return self.failure or Success(self.connection)


Answers = tuple[Remembered, ...]
"""Oldest first."""


def remembering(answers: Answers, message_id: bytes | None, reply: Reply) -> Answers:
    """Return ``answers`` with one more; the oldest goes where there are too many."""
    if message_id is None:
        return answers
    match reply:
        case Failure():
            one = Remembered(message_id=message_id, failure=reply)
        case Success(value):
            assert not isinstance(value, AccessToken | ProviderConnection)
            one = Remembered(message_id=message_id, connection=value)
    return (*answers, one)[-REMEMBERED_MAX:]


def recalled(answers: Answers, message_id: bytes | None) -> Reply | None:
    """Return what a command with this id was answered, or None."""
    if message_id is None:
        return None
    return next((one.reply for one in answers if one.message_id == message_id), None)
