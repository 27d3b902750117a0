"""Answers that records do not hold any more, for copies of commands that come late.

A record remembers the answers of a connection's last commands, whoever its owner is. A copy may
come after more than those: a nats-server that stood still delivers, when it goes on, what lay in
it, and its caller has repeated that elsewhere long since. So the daemon that has answered
remembers more, in memory, as far as there is room.
"""

from collections import OrderedDict

from actors.envelope import Envelope
from domain.decision import Reply
from domain.remembered import REMEMBERED_MAX, Answers, recalled, remembering


class OlderAnswers:
    """Those of all connections of a daemon, the latest so many."""

    def __init__(self, answers_max: int) -> None:
        """Remember none yet."""
        self.answers_max = answers_max
        self._replies: OrderedDict[tuple[int, bytes], Reply] = OrderedDict()

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._replies)

    def recalled(self, envelope: Envelope, answers: Answers) -> Reply | None:
        """Return what a command was answered before, by its record's answers or by these."""
        message_id = envelope.message_id
        if message_id is None:
            return None
        reply = recalled(answers, message_id)
        return reply or self._replies.get((envelope.command.connection_id.int, message_id))

    def remembering(self, envelope: Envelope, answers: Answers, reply: Reply) -> Answers:
        """Return a record's answers with one more, and keep here what has no room there."""
        after = remembering(answers, envelope.message_id, reply)
        if after is not answers and len(answers) == REMEMBERED_MAX:
            oldest = answers[0]
            key = (envelope.command.connection_id.int, oldest.message_id)
            self._replies[key] = oldest.reply
            while len(self._replies) > self.answers_max:
                self._replies.popitem(last=False)
        return after

    def forget(self) -> None:
        """Forget all: what was decided on top of what is not stored is void, and its answers."""
        self._replies.clear()
