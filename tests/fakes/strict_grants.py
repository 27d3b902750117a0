"""Strictly rotating grants of many connections, each of which can meet its own mishap."""

from collections import defaultdict, deque
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum

import anyio
import msgspec

from actors.ports import Clock
from domain.credentials import Secret
from domain.exchange import Answered, Exchange, ExchangeRequest, Lost, NotSent, Place
from domain.profile import ProviderProfile
from tests.fakes.troubled_provider import Presented


class Mishap(StrEnum):
    """What becomes of one request."""

    NOT_SENT = "not_sent"
    PAGE = "page"
    """Something in between answers with a page, and lets nothing through."""
    REQUEST_LOST = "request_lost"
    UNAVAILABLE = "unavailable"
    """A 503 before it is looked at."""
    ANSWER_LOST = "answer_lost"
    ANSWER_CUT = "answer_cut"
    """It breaks off behind the access token."""
    FAILED_AFTER = "failed_after"
    """A 500 although the token was rotated."""


_BEFORE = (Mishap.REQUEST_LOST, Mishap.UNAVAILABLE, Mishap.PAGE)


class StrictGrants:
    """Each refresh token works once; one that is presented again ends its whole grant.

    The grant of connection number n begins with the refresh token ``n.1``.
    """

    takes_s = 0.2
    """A request is looked at after half of that."""
    silence_s = 5.0
    """How long nothing comes of a request that was lost."""

    def __init__(self, clock: Clock, *, lifetime_s: int) -> None:
        """Start with every grant alive."""
        self.clock = clock
        self.lifetime_s = lifetime_s
        self.mishaps: defaultdict[int, deque[Mishap]] = defaultdict(deque)
        """What becomes of the next requests of a connection."""
        self.history: defaultdict[int, list[Presented]] = defaultdict(list)
        self.issued_at_s: dict[str, float] = {}
        self.replayed: set[str] = set()
        """Refresh tokens that were presented although they had been rotated."""
        self.before: Callable[[int], object] = lambda _number: None
        """Called when a connection's refresh token is presented."""
        self._live: defaultdict[int, int] = defaultdict(lambda: 1)

    def place(
        self, profile: ProviderProfile, params: dict[str, str] | None, endpoint_base: str | None
    ) -> Place:
        """See ``TokenEndpoint``: each shop has its host."""
        host = f"{(params or {})['shop']}.{profile.slug}.test"
        return Place(host, f"https://{host}/token")

    def live(self, number: int) -> str | None:
        """Return the refresh token that works; None where the grant has ended."""
        is_over = any(one.startswith(f"{number}.") for one in self.replayed)
        return None if is_over else f"{number}.{self._live[number]}"

    async def exchange(self, request: ExchangeRequest) -> Exchange:
        """See ``TokenEndpoint``."""
        token = request.presented.reveal().decode()
        number = int(token.partition(".")[0])
        waiting, history = self.mishaps[number], self.history[number]
        mishap = waiting.popleft() if waiting else None
        if mishap is Mishap.NOT_SENT:
            return NotSent(code="connect_failed")
        self.before(number)
        position = len(history)
        history.append(Presented(token, anyio.current_time(), "open"))
        await anyio.sleep(self.takes_s / 2)
        answer = self._refused() if mishap in _BEFORE else self._rotated(number, token)
        lost = mishap in (Mishap.REQUEST_LOST, Mishap.ANSWER_LOST)
        await anyio.sleep(self.silence_s if lost else self.takes_s / 2)
        outcome, ended = _met(mishap, answer)
        history[position] = history[position]._replace(ended=ended)
        return outcome

    def _rotated(self, number: int, token: str) -> Answered:
        if token != self.live(number):
            self.replayed.add(token)
            return self._answered(400, {"error": "invalid_grant"})
        self._live[number] += 1
        fresh = f"{number}.{self._live[number]}"
        self.issued_at_s[fresh] = anyio.current_time()
        body = {"access_token": f"a{fresh}", "expires_in": self.lifetime_s, "refresh_token": fresh}
        return self._answered(200, body)

    def _refused(self) -> Answered:
        return self._answered(503, {})

    def _answered(self, status: int, body: object) -> Answered:
        return Answered(
            status=status,
            body=Secret(msgspec.json.encode(body)),
            content_type="application/json",
            sent_at=self.clock.now() - timedelta(seconds=self.takes_s),
        )


def _met(mishap: Mishap | None, answer: Answered) -> tuple[Exchange, str]:
    """Return what the daemon gets, and whether that tells it what became of the token."""
    match mishap:
        case Mishap.REQUEST_LOST | Mishap.ANSWER_LOST:
            return Lost(code="timeout"), "lost"
        case Mishap.UNAVAILABLE | Mishap.FAILED_AFTER:
            status = 500 if mishap is Mishap.FAILED_AFTER else 503
            return msgspec.structs.replace(answer, status=status, body=Secret(b"{}")), "lost"
        case Mishap.ANSWER_CUT if answer.status == 200:
            body, behind = answer.body.reveal(), b'"refresh_token":"'
            cut = Secret(body[: body.index(behind) + len(behind)])
            return Lost(code="timeout", cut=msgspec.structs.replace(answer, body=cut)), "cut"
        case Mishap.PAGE:
            page = Secret(b"<html>Blocked</html>")
            return msgspec.structs.replace(
                answer, status=403, body=page, content_type="text/html"
            ), "answered"
        case _:
            return answer, "answered"
