"""A headless Chromium that is installed already, spoken to over its debugging pipe.

Nothing is downloaded, and no library is needed: messages are JSON with a NUL between them.
"""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ANSWER_S = 30.0
_FROM_US, _TO_US = 3, 4


def installed_browser() -> str | None:
    """Return the program, or None where there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Tab:
    """One page of the browser."""

    def __init__(self, read: asyncio.StreamReader, write: int) -> None:
        self._read, self._write = read, write
        self._session: str | None = None
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self.errors: list[str] = []
        """What the page wrote as an error, and what it threw."""
        self.loaded = asyncio.Event()

    async def listen(self) -> None:
        """Take what the browser says, until it ends."""
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                said = json.loads((await self._read.readuntil(b"\0"))[:-1])
                if waiting := self._answers.pop(said.get("id", 0), None):
                    waiting.set_result(said)
                match said.get("method"):
                    case "Page.loadEventFired":
                        self.loaded.set()
                    case "Runtime.exceptionThrown":
                        self.errors.append(json.dumps(said["params"]))
                    case "Log.entryAdded":
                        self.errors.append(said["params"]["entry"]["text"])
                    case _:
                        pass

    async def tell(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the result of a command."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        self._answers[self._number] = asyncio.get_running_loop().create_future()
        answered = self._answers[self._number]
        os.write(self._write, json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(_ANSWER_S):
            said = await answered
        assert "error" not in said, said
        return said["result"]

    async def attach(self) -> None:
        """Be a new tab."""
        target = await self.tell("Target.createTarget", url="about:blank")
        session = await self.tell(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session = session["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self.tell(f"{domain}.enable")

    async def look_like(self, *, width: int, scheme: str, has_script: bool = True) -> None:
        """Be so wide, in the light or the dark scheme, with or without a script."""
        metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.tell("Emulation.setDeviceMetricsOverride", **metrics)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.tell("Emulation.setEmulatedMedia", features=[feature])
        await self.tell("Emulation.setScriptExecutionDisabled", value=not has_script)

    async def go(self, url: str) -> None:
        """Return when the page at ``url`` is loaded."""
        self.loaded.clear()
        await self.tell("Page.navigate", url=url)
        async with asyncio.timeout(_ANSWER_S):
            await self.loaded.wait()

    async def value(self, expression: str) -> Any:
        """Return what an expression is in the page."""
        result = await self.tell("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def picture(self, file: Path) -> None:
        """Write all of the page as a PNG."""
        shot = await self.tell("Page.captureScreenshot", captureBeyondViewport=True)
        await anyio.Path(file).write_bytes(base64.b64decode(shot["data"]))


@contextlib.asynccontextmanager
async def open_tab(program: str) -> AsyncGenerator[Tab]:
    """Yield a tab of a browser of its own, which is ended afterwards."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()

    def place() -> None:
        # Both are copied before either number is taken: one may be the other's.
        copies = os.dup(theirs_in), os.dup(theirs_out)
        os.dup2(copies[0], _FROM_US)
        os.dup2(copies[1], _TO_US)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            program,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update"),
            *("--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=place,
            close_fds=False,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        reader = asyncio.StreamReader(limit=2**26)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours_in, "rb", buffering=0)
        )
        tab = Tab(reader, ours_out)
        listening = asyncio.create_task(tab.listen())
        try:
            await tab.attach()
            yield tab
        finally:
            process.kill()
            await process.wait()
            listening.cancel()
            os.close(ours_out)
