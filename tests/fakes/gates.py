"""A gate of a client, and visits to it."""

from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from actors.client_gate import ClientGate, ClientGates
from actors.closed import Closed
from domain.exchange import Place, Reach, Verdict
from domain.profile import FailureClass, ProviderProfile
from tests.fakes.commands import connection_number

PROFILE = ProviderProfile(
    slug="acme",
    client_id="c-1",
    token_endpoint="https://acme.test/token",
    max_concurrency=2,
    probe_interval_s=900.0,
)
TENANTS = ProviderProfile(
    slug="tenants",
    client_id="c-1",
    token_endpoint="https://{shop}.test/token",
    probe_interval_s=900.0,
)
HERE = Place("acme.test", "https://acme.test/token")
T, O, U, A = (  # noqa: E741 -- the letters of PROVIDERS.md section 4
    FailureClass.TRANSIENT,
    FailureClass.OPERATOR,
    FailureClass.USER,
    FailureClass.AMBIGUOUS,
)
ONE, TWO, THREE, FOUR, FIVE = (connection_number(number) for number in range(1, 6))


def verdict(failure_class: FailureClass, reason: str = "It broke", **fields: Any) -> Verdict:
    """Return a verdict of a class."""
    return Verdict(failure_class=failure_class, code="c", reason=reason, **fields)


REFUSED = verdict(O, "No such client", reach=Reach.CLIENT)
NOT_THERE = verdict(O, "No such page", reach=Reach.HOST)
HOUR = verdict(T, "Too many requests", cools_client=True, retry_after_s=3600.0, counts=False)
LIMITED = verdict(T, "Too many requests", cools_client=True, retry_after_s=60.0, counts=False)


def opened(profile: ProviderProfile = PROFILE, place: Place = HERE) -> ClientGate:
    """Return a gate that knows nothing."""
    return ClientGates().of(profile, place)


def shop(name: str) -> Place:
    """Return a tenant's own place."""
    return Place(f"{name}.test", f"https://{name}.test/token")


def paused(gate: ClientGate | None = None, told: Verdict = REFUSED) -> ClientGate:
    """Return a gate at which three connections have failed."""
    gate = gate or opened()
    for connection_id in (ONE, TWO, THREE):
        gate.failed(connection_id, told)
    return gate


class Visit:
    """One flight's stay in a gate: it keeps its slot until ``leave`` is set."""

    def __init__(self, gate: ClientGate, number: int = 9) -> None:
        self._gate = gate
        self._connection_id = connection_number(number)
        self.found: list[Closed | None] = []
        self.leave = anyio.Event()

    async def __call__(self) -> None:
        async with self._gate.slot(self._connection_id) as closed:
            self.found.append(closed)
            if closed is None:
                await self.leave.wait()


async def settle() -> None:
    """Let every task take its turns."""
    for _ in range(10):
        await checkpoint()
