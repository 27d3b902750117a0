"""Where others keep their tokens: a table in PostgreSQL, and a Nango, as its public papers say."""

import contextlib
import json
import subprocess
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from bench.peers.servers import running_postgres

NANGO_KEY = "nango-key"
_TABLE = """
create table oauth_tokens (
  id int primary key, user_id int, provider text, account_email text, access_token text,
  refresh_token text, token_type text, scope text, expires_at timestamptz, revoked_at timestamptz,
  created_at timestamp default '2026-01-01');
insert into oauth_tokens values
  (1, 7, 'google', E'a"\\\\b\\n@c', E'at\\\\1', 'rt-1', 'Bearer', 'a b', '2030-01-01 00:00+00', null),
  (2, 7, 'slack', null, 'at-2', null, null, null, null, null),
  (3, 8, 'slack', null, 'at-3', 'rt-3', null, null, '2030-01-01 00:00+00', now());
"""
_LISTED: list[dict[str, Any]] = [
    {"connection_id": "a/b", "provider_config_key": "hubspot", "tags": {"end_user_id": "u-1"}},
    {"connection_id": "old", "provider_config_key": "github", "end_user": {"id": "u-2"}},
    {"connection_id": "dead", "provider_config_key": "hubspot", "end_user": None},
    {"connection_id": "key", "provider_config_key": "stripe", "end_user": None},
]
_CREDENTIALS: dict[str, Any] = {
    "a/b": {
        "type": "OAUTH2",
        "access_token": "at",
        "refresh_token": "rt",
        "expires_at": "2030-01-01T00:00:00.000Z",
        "raw": {"access_token": "older", "token_type": "bearer", "expires_in": 1800},
    },
    "old": {"type": "OAUTH2", "access_token": "gho", "raw": {"access_token": "gho"}},
    "key": {"type": "API_KEY"},
}


@contextlib.contextmanager
def running_table() -> Generator[str]:
    """Yield the URL of a database that has ``oauth_tokens`` with three rows.

    Raises:
        CannotServeError: There is no PostgreSQL.
    """
    with running_postgres() as server:
        url = f"postgresql:///postgres?host={server.socket}&user=postgres"
        subprocess.run(["psql", "-X", "-q", url, "-c", _TABLE], check=True)
        yield url


@contextlib.contextmanager
def running_nango() -> Generator[str]:
    """Yield the URL of a Nango with four connections, two of which can be moved."""
    with HTTPServer(("127.0.0.1", 0), _Nango) as server:
        # Looked at often, so that it ends soon.
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Nango(BaseHTTPRequestHandler):
    """Answers as its public documentation says."""

    busy = True

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        name = unquote(asked.path.removeprefix("/connections").removeprefix("/"))
        query = {key: value for key, [value] in parse_qs(asked.query).items()}
        if self.headers["Authorization"] != f"Bearer {NANGO_KEY}":
            self.answer(401, {})
        elif name == "old" and _Nango.busy:
            _Nango.busy = False
            self.answer(429, {})
        elif not name:
            self.answer(200, {"connections": _LISTED})
        elif name not in _CREDENTIALS or query.get("refresh_token") != "true":
            self.answer(424, {})
        else:
            config = {"subdomain": "x", "n": 1}
            self.answer(200, {"credentials": _CREDENTIALS[name], "connection_config": config})

    def answer(self, status: int, body: object) -> None:
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "0.01")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
