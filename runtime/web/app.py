"""The paths: the page at ``/``, ``/livez``, ``/readyz`` and ``/metrics``."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from runtime.web.figures import Figures
from runtime.web.health import STARTING, Check, Health
from runtime.web.metrics import Metrics
from runtime.web.page import page
from runtime.web.view import View

_AGE_S = 1.0
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_NO_STORE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_PAGE = _NO_STORE | {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


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
        self._metrics = Metrics()
        self._measuring = anyio.Lock()
        self._view: Callable[[], View] | None = None
        self._measured = (0.0, b"")
        self._drawn = (0.0, "")
        self.app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/page.css", _file("page.css", "text/css")),
                Route("/page.js", _file("page.js", "text/javascript")),
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

    def show(self, seen: Seen, view: Callable[[], View]) -> None:
        """Show a daemon that has started.

        Args:
            seen: Its health and figures.
            view: What its page shows.
        """
        self._seen, self._view = seen, view

    async def _page(self, _request: Request) -> Response:
        if self._view is None:
            return HTMLResponse(page(None), 503, _PAGE)
        if time.monotonic() - self._drawn[0] >= _AGE_S:
            self._drawn = (time.monotonic(), page(self._view()))
        return HTMLResponse(self._drawn[1], headers=_PAGE)

    async def _livez(self, request: Request) -> Response:
        return _health(request, "livez", () if self._seen is None else self._seen.alive())

    async def _readyz(self, request: Request) -> Response:
        return _health(
            request, "readyz", (STARTING,) if self._seen is None else await self._seen.ready()
        )

    async def _measure(self, _request: Request) -> Response:
        if self._seen is None:
            return PlainTextResponse(f"{STARTING}\n", 503, _NO_STORE)
        async with self._measuring:
            if time.monotonic() - self._measured[0] >= _AGE_S:
                at_s, figures = time.monotonic(), self._seen.figures()
                # With many providers that takes longer than commands may wait.
                text = await anyio.to_thread.run_sync(self._metrics.text, figures)
                self._measured = (at_s, text)
        return Response(self._measured[1], media_type=CONTENT_TYPE_LATEST, headers=_NO_STORE)


def _health(request: Request, name: str, checks: tuple[Check, ...]) -> Response:
    health = Health(name, checks)
    text = health.text(is_verbose="verbose" in request.query_params)
    return PlainTextResponse(text, health.status, _NO_STORE)


def _file(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers with a file that lies beside this one."""
    content = (Path(__file__).parent / name).read_bytes()

    async def answer(_request: Request) -> Response:
        return Response(content, media_type=media_type, headers=_NO_STORE)

    return answer
