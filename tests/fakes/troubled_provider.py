"""A strict provider behind a bad network, in a process that may be killed at any step."""

from random import Random
from typing import NamedTuple
from uuid import UUID

import anyio
import msgspec

from actors.ports import Clock
from domain.credentials import Secret
from domain.exchange import Answered, Exchange, ExchangeRequest, Lost, NotSent
from tests.fakes.providers import RotatingProvider

_FAILURES = (500, 502, 503, 504, 507, 520, 524)


class KilledError(BaseException):
    """What ends a process at once: nothing after it runs."""


class ProviderRates(msgspec.Struct, frozen=True, kw_only=True):
    """How often each fault strikes."""

    not_sent: float = 0.0
    request_is_lost: float = 0.0
    answer_is_lost: float = 0.0
    unavailable: float = 0.0
    """A 5xx before the request is looked at."""
    unavailable_after: float = 0.0
    """A 5xx although the token was rotated."""
    answer_is_cut: float = 0.0
    """The token was rotated, and the answer breaks off behind the access token."""
    rate_limited: float = 0.0
    html: float = 0.0
    killed: float = 0.0
    """At any step, before or after it took effect."""


class Presented(NamedTuple):
    """One presentation of a refresh token, and how it ended for the daemon."""

    token: str
    at_s: float
    ended: str
    """``answered``, ``lost``, ``cut``; ``open`` where the daemon was killed."""


class TroubledProvider(RotatingProvider):
    """Notes each presentation, and whether the daemon was told what became of it."""

    def __init__(self, seed: int, rates: ProviderRates, clock: Clock, *, lifetime_s: int) -> None:
        """Throw the same dice for the same seed."""
        super().__init__(clock, lifetime_s=lifetime_s, takes_s=0.2)
        self.rates = rates
        self.history: list[Presented] = []
        self.issued_at_s = {"r1": 0.0}
        """When each refresh token, and the access token beside it, was issued."""
        self.may_be_spent_unheard = False
        """Whether the provider ever rotated without the daemon hearing of it."""
        self._random = Random(seed)

    def ended(self) -> None:
        """Let nothing fail from now on."""
        self.rates = ProviderRates()

    @property
    def access(self) -> str:
        """The newest access token, as it stands in a secret."""
        return f'"a{self._issued}"'

    def forgot_the_last_cut(self) -> None:
        """Note that the daemon ended before it stored what it had read of an answer."""
        if self.history and self.history[-1].ended == "cut":
            self.history[-1] = self.history[-1]._replace(ended="open")

    def strikes(self, rate: float) -> bool:
        """Whether a fault of this rate strikes now."""
        return rate > 0 and self._random.random() < rate

    def maybe_kill(self, *_: object) -> None:
        """End the process, sometimes."""
        if self.strikes(self.rates.killed):
            raise KilledError

    def on_ledger(self, _operation: str, _connection_id: UUID) -> None:
        """A hook for the ledger: before an operation."""
        self.maybe_kill()

    async def exchange(self, request: ExchangeRequest) -> Exchange:
        """See ``TokenEndpoint``."""
        token = request.presented.reveal().decode()
        self.maybe_kill()
        if self.strikes(self.rates.not_sent):
            return NotSent(code="connect_failed")
        at_s = anyio.current_time()
        self.history.append(Presented(token, at_s, "open"))
        await anyio.sleep(self._random.random() * self.takes_s)
        answer, ended = self._played(token)
        await anyio.sleep(self._random.random() * self.takes_s)
        if self.strikes(self.rates.killed):
            self.may_be_spent_unheard = True
            raise KilledError
        self.history[-1] = Presented(token, at_s, ended)
        return answer

    def _played(self, token: str) -> tuple[Exchange, str]:  # noqa: PLR0911 -- one a fault
        """Return an answer, and whether it tells the daemon what became of the token."""
        rates = self.rates
        if self.strikes(rates.request_is_lost):
            return Lost(code="timeout"), "lost"
        if self.strikes(rates.unavailable):
            return self._failed(), "lost"
        if self.strikes(rates.rate_limited):
            return self.answered(429, {}, retry_after="2"), "answered"
        if self.strikes(rates.html):
            return self._html(), "answered"
        answer = self._answer(token)
        if self.live is not None:
            self.issued_at_s.setdefault(self.live, anyio.current_time())
        if self.strikes(rates.answer_is_lost):
            self.may_be_spent_unheard = True
            return Lost(code="connection_lost"), "lost"
        if self.strikes(rates.unavailable_after):
            self.may_be_spent_unheard = True
            return self._failed(), "lost"
        if (
            isinstance(answer, Answered)
            and answer.status == 200
            and self.strikes(rates.answer_is_cut)
        ):
            self.may_be_spent_unheard = True
            body, behind = answer.body.reveal(), b'"refresh_token":"'
            cut = Secret(body[: body.index(behind) + len(behind)])
            return Lost(code="timeout", cut=msgspec.structs.replace(answer, body=cut)), "cut"
        return answer, "answered"

    def _failed(self) -> Answered:
        return self.answered(self._random.choice(_FAILURES), {})

    def _html(self) -> Answered:
        return msgspec.structs.replace(
            self.answered(403, {}), body=Secret(b"<html>Blocked</html>"), content_type="text/html"
        )
