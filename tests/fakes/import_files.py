"""Lines of an import, and what a run of it says."""

import json
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from tests.fakes.refreshd_command import refreshd

PROVIDER = "0b8f6c1e-5a7d-4c3b-8e2f-9a1b2c3d4e5f"
CANARY = "canary-of-an-import"


def grant(number: int = 0, **changes: Any) -> dict[str, Any]:
    """Return the credentials of a line."""
    return {
        "credential_type": "oauth2",
        "expires_at": "2099-01-01T00:00:00Z",
        "secret": {"access_token": f"at-{CANARY}-{number}", "refresh_token": f"rt-{CANARY}"},
    } | changes


def line(user_id: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return what a line says; without a user a new one's."""
    return {
        "user_id": user_id or str(uuid4()),
        "provider_id": PROVIDER,
        "provider_slug": "schwab",
        "credentials": grant(),
    } | fields


def numbered(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Return lines of so many users, the same each time."""
    return [line(str(UUID(int=n + 1)), **fields) for n in range(count)]


def text_of(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


class Imported(NamedTuple):
    """What a run has told."""

    code: int | None
    stdout: str
    stderr: str
    rejects: list[dict[str, Any]]

    @property
    def told(self) -> dict[str, Any]:
        return json.loads(self.stdout)

    @property
    def reasons(self) -> dict[int, str]:
        """The rejected lines, with code and reason."""
        return {one["line"]: f"{one['code']}: {one['reason']}" for one in self.rejects}


async def imported(
    folder: Path, data_dir: Path | None, text: bytes, *options: str, stdin: bool = False
) -> Imported:
    """Import a file of this text, or give it on standard input."""
    file, rejects = folder / "lines.ndjson", folder / "rejected"
    file.write_bytes(text)
    ended = await refreshd(
        *("import", "-" if stdin else str(file), "--rejects", str(rejects), "-o", "json"),
        *(() if data_dir is None else ("--data-dir", str(data_dir))),
        *options,
        stdin=text.decode() if stdin else "",
    )
    text_told = rejects.read_text() if rejects.exists() else ""
    told = [json.loads(one) for one in text_told.splitlines()]
    return Imported(ended.code, ended.stdout, ended.stderr, told)
