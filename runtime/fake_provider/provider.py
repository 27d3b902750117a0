"""The fake provider itself: its grants, clients, quirks and counters, without HTTP."""

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable

from runtime.fake_provider.clients import DEFAULT_CLIENT, Client, ClientDesk
from runtime.fake_provider.grants import GrantBook, Issued
from runtime.fake_provider.quirks import QuirkBoard, Quirks
from runtime.fake_provider.stats import Stats


class RateWindow:
    """Counts token requests per client and period (quirk 34)."""

    def __init__(self) -> None:
        """Start with none counted."""
        self._windows: dict[str, tuple[float, int]] = {}

    def wait_s(self, client_id: str, quirks: Quirks, *, now_s: float) -> float | None:
        """Count a request, and return how long the client must wait; None lets it pass."""
        if quirks.rate_limit is None:
            return None
        began, count = self._windows.get(client_id, (now_s, 0))
        if now_s >= began + quirks.rate_period_s:
            began, count = now_s, 0
        if count >= quirks.rate_limit:
            return began + quirks.rate_period_s - now_s
        self._windows[client_id] = (began, count + 1)
        return None

    def clear(self) -> None:
        """Forget what was counted."""
        self._windows.clear()


class FakeProvider:
    """What tests hold: ``url``, ``book``, ``quirks``, ``clients``, ``stats``."""

    def __init__(
        self,
        *,
        quirks: Quirks | None = None,
        clients: tuple[Client, ...] = (),
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Prepare; ``server.running_fake_provider`` makes it listen.

        Args:
            quirks: What applies to all requests at first.
            clients: Who may come; ``fake-client`` with ``fake-secret`` where none is given.
            clock: Epoch seconds; a test may bring its own.
            sleep: Waits for the delays; a test may bring its own.
        """
        self.url = ""
        """Where it listens, without a slash at the end; it is also the issuer."""
        self.stats = Stats()
        self.quirks = QuirkBoard(quirks)
        self.clients = ClientDesk(clients or (DEFAULT_CLIENT,))
        self.book = GrantBook(clock=clock, key=secrets.token_bytes(32), stats=self.stats)
        self.rates = RateWindow()
        self.clock = clock
        self.sleep = sleep
        self.held = asyncio.Event()
        """Set when requests that hang are released; each release makes a new one."""
        self._draws = random.Random(self.quirks.base.seed)  # noqa: S311 -- no secret hangs on it
        self._seed = self.quirks.base.seed

    @property
    def token_endpoint(self) -> str:
        """The URL of the token endpoint."""
        return f"{self.url}/token"

    @property
    def client(self) -> Client:
        """The first client."""
        return next(iter(self.clients.clients.values()))

    def create(
        self,
        subject: str = "user",
        *,
        client_id: str | None = None,
        expires_in: float | None = None,
    ) -> Issued:
        """Create a grant, of the first client if no other is named."""
        return self.book.create(
            subject,
            client_id=client_id or self.client.client_id,
            expires_in=expires_in,
            quirks=self.quirks.base,
        )

    def release(self) -> int:
        """Let the requests that hang go on, and return how many there were."""
        released = self.stats.hanging
        self.held.set()
        self.held = asyncio.Event()
        return released

    def reset(self) -> None:
        """Forget grants, quirks and counters; requests that hang go on. Clients stay."""
        self.release()
        self.book.clear()
        self.quirks.clear()
        self.rates.clear()
        self.stats.clear()

    def draw(self, quirks: Quirks) -> float:
        """Return a number in [0, 1): the next in the row that ``seed`` begins."""
        if quirks.seed != self._seed:
            self._seed = quirks.seed
            self._draws = random.Random(self._seed)  # noqa: S311 -- no secret hangs on it
        return self._draws.random()
