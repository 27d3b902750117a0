"""The paths: ``/livez``, ``/readyz`` and ``/metrics``."""

import time
from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from runtime.web.health import STARTING, Check, Health
from runtime.web.metrics import Figures, Metrics

_METRICS_AGE_S = 1.0
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_NO_STORE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Seen(Protocol):
    """A daemon that has started, as far as it is shown."""

    def alive(self) -> tuple[Check, ...]:
        """Return what the process's own life depends on."""
        ...

    async def ready(self) -> tuple[Check, ...]:
        """Return what taking commands depends on."""
        ...

    def figures(self) -> Figures:
        """Return every metric's present value."""
        ...


class Web:
    """What is shown, before and after the daemon has started."""

    def __init__(self, *, is_local: bool) -> None:
        """Show that the daemon is starting.

        Args:
            is_local: Whether only who names this machine is answered: a page of another site, whose
                name its owner lets point here, must not read ours through an operator's browser.
        """
        self.address = "off"
        """Where it listens, for the ready line."""
        self._seen: Seen | None = None
        self._metrics: Metrics | None = None
        self._measured = (0.0, b"")
        self.app = Starlette(
            routes=[
                Route("/livez", self._livez),
                Route("/readyz", self._readyz),
                Route("/metrics", self._measure),
            ],
            middleware=[
                Middleware(
                    TrustedHostMiddleware,
                    allowed_hosts=_LOCAL_HOSTS if is_local else ("*",),
                    www_redirect=False,
                )
            ],
        )

    def show(self, seen: Seen) -> None:
        """Show a daemon that has started."""
        self._seen, self._metrics = seen, Metrics(seen.figures)

    async def _livez(self, request: Request) -> Response:
        return _health(request, "livez", () if self._seen is None else self._seen.alive())

    async def _readyz(self, request: Request) -> Response:
        return _health(
            request, "readyz", (STARTING,) if self._seen is None else await self._seen.ready()
        )

    async def _measure(self, _request: Request) -> Response:
        if self._metrics is None:
            return PlainTextResponse(f"{STARTING}\n", 503, _NO_STORE)
        age_s = time.monotonic() - self._measured[0]
        if age_s >= _METRICS_AGE_S:
            self._measured = (time.monotonic(), self._metrics.text())
        return Response(self._measured[1], media_type=CONTENT_TYPE_LATEST, headers=_NO_STORE)


def _health(request: Request, name: str, checks: tuple[Check, ...]) -> Response:
    health = Health(name, checks)
    text = health.text(is_verbose="verbose" in request.query_params)
    return PlainTextResponse(text, health.status, _NO_STORE)
