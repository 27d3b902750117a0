"""A daemon that refreshes at a fake provider, and connections for it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from runtime.fake_provider.grants import Issued
from runtime.fake_provider.provider import FakeProvider
from tests.fakes.daemon_process import Answer, PlainCaller


def write_config(
    folder: Path, provider: FakeProvider, *, secret: str = "", **settings: str
) -> Path:
    """Write a configuration with the fake provider as ``fake``, and return its path.

    Args:
        folder: Where to write.
        provider: A running one.
        secret: The client's secret; empty takes the right one.
        **settings: Further TOML values of the section, as text.
    """
    client = provider.client
    secret_file = folder / "client-secret"
    secret_file.write_text(secret or client.client_secrets[0])
    lines = {
        "token_endpoint": f'"{provider.token_endpoint}"',
        "client_id": f'"{client.client_id}"',
        "client_secret_file": f'"{secret_file}"',
        "reuse_policy": '"none"',
        "timeout_s": "5",
        **settings,
    }
    text = "\n".join(f"{name} = {value}" for name, value in lines.items())
    config = folder / "refreshd.toml"
    config.write_text(f"[providers.fake]\n{text}\n")
    return config


async def connect(
    caller: PlainCaller, provider: FakeProvider, *, lives_s: float = -1.0, **fields: Any
) -> tuple[str, Issued]:
    """Connect a new grant whose access token ends in ``lives_s``; return its id and the grant."""
    grant = provider.create(expires_in=lives_s)
    ends_at = datetime.now(UTC) + timedelta(seconds=lives_s)
    credentials = {
        "credential_type": "oauth2",
        "expires_at": ends_at.isoformat(),
        "secret": {
            "access_token": grant.access_token,
            "refresh_token": grant.refresh_token,
            "token_type": "Bearer",
        },
    }
    user_id = str(uuid4())
    fields = {
        "user_id": user_id,
        "provider_slug": "fake",
        "credentials": credentials,
        "connection_id": str(uuid4()),
    } | fields
    return await caller.connect(**fields), grant


async def token(caller: PlainCaller, connection_id: str, **body: Any) -> Answer:
    """Ask for a token."""
    headers = {"Refreshd-Timeout-Ms": str(body.pop("timeout_ms", 5000))}
    return await caller.ask(
        f"connection.{connection_id}.token", body, headers=headers, timeout_s=10.0
    )
