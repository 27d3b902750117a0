"""What an actor needs of the directory that it lives in."""

from collections import Counter
from typing import TYPE_CHECKING, Protocol

from actors.older_answers import OlderAnswers
from actors.world import Limits, World
from domain.result import Failure

if TYPE_CHECKING:
    from actors.connection_actor import ConnectionActor
    from actors.flight import Flight


class House(Protocol):
    """The directory, as its actors see it."""

    world: World
    limits: Limits
    token_callers: Counter[str]
    """How many callers of ``token`` wait, by provider."""
    older_answers: OlderAnswers

    def read(self, actor: "ConnectionActor") -> None:
        """Read the actor's record in a task, and call ``know`` or ``cannot_know``."""
        ...

    def fly(self, flight: "Flight") -> None:
        """Run a flight in a task; it calls ``landed``."""
        ...

    def rested(self, actor: "ConnectionActor") -> None:
        """The actor may have nothing under way any more."""
        ...

    def crashed(self, actor: "ConnectionActor", error: Exception) -> Failure | None:
        """Note that the actor met a bug; return why it takes nothing more for now, or None."""
        ...
