"""What holds a provider's requests back is told of each connection that it holds back."""

from typing import Any
from uuid import UUID

from actors.client_gate import ClientGates
from domain.advice import Who
from domain.connection import ConnectionStatus
from domain.exchange import Place
from domain.explanation import Explanation
from domain.profile import ProviderProfile
from domain.result import Failure, Success
from domain.verdict_table import CODES
from runtime.gateway.explaining import Explainer
from tests.domain.shapes import NOW, SLUG, stored

PROFILE = ProviderProfile(slug=SLUG)
PLACE = Place("provider.example", "https://provider.example/token")
REFUSED = CODES["invalid_client"]


class OnePlace:
    """A token endpoint of which nothing is asked."""

    def place(self, *_: object) -> Place:
        return PLACE


async def no_history(*_: object) -> Success[object] | Failure:
    return Success(None)


def explained(gates: ClientGates, profile: ProviderProfile | None = PROFILE) -> Explanation:
    endpoint: Any = OnePlace()
    explainer = Explainer(lambda _: profile, endpoint, gates, now=lambda: NOW, history=no_history)
    return explainer.explained(stored(ConnectionStatus.ACTIVE))


async def refused(gates: ClientGates, connections: int) -> None:
    """Have a provider refuse the client for so many connections."""
    gate = gates.of(PROFILE, PLACE)
    for number in range(connections):
        async with gate.slot(UUID(int=number)):
            gate.failed(UUID(int=number), REFUSED)


async def test_a_pause_that_others_have_caused_is_told():
    gates = ClientGates()
    await refused(gates, 4)

    found = explained(gates)

    assert found.because[0].startswith("nobody asks this provider for ")
    assert REFUSED.reason in found.because[0]
    assert found.advice.who is Who.OPERATOR


async def test_one_connections_failure_is_nothing_of_the_others():
    gates = ClientGates()
    await refused(gates, 1)

    assert explained(gates).because == ()


async def test_without_a_profile_nothing_is_held_back():
    gates = ClientGates()
    await refused(gates, 4)

    assert explained(gates, None).because == (f"no profile is configured for provider {SLUG}",)
