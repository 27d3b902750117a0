"""What docs/own-table.md and docs/nango.md give to copy makes lines that an import takes."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from bench.peers.servers import CannotServeError, running_postgres
from runtime.cli.import_line import Planned, read_line
from tests.fakes.papers import block

TABLE = """
create table oauth_tokens (
  id int primary key, user_id int, provider text, account_email text, access_token text,
  refresh_token text, token_type text, scope text, expires_at timestamptz, revoked_at timestamptz,
  created_at timestamp default '2026-01-01');
insert into oauth_tokens values
  (1, 7, 'google', E'a"\\\\b\\n@c', E'at\\\\1', 'rt-1', 'Bearer', 'a b', '2030-01-01 00:00+00', null),
  (2, 7, 'slack', null, 'at-2', null, null, null, null, null),
  (3, 8, 'slack', null, 'at-3', 'rt-3', null, null, '2030-01-01 00:00+00', now());
"""
NANGO: list[dict[str, Any]] = [
    {"connection_id": "a/b", "provider_config_key": "hubspot", "tags": {"end_user_id": "u-1"}},
    {"connection_id": "old", "provider_config_key": "github", "end_user": {"id": "u-2"}},
    {"connection_id": "dead", "provider_config_key": "hubspot", "end_user": None},
    {"connection_id": "key", "provider_config_key": "stripe", "end_user": None},
]
CREDENTIALS: dict[str, Any] = {
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


def planned(text: str) -> list[Planned]:
    """Return what an import makes of the lines; asserts: it takes each."""
    return [
        read_line(number, line.encode(), end_bytes=0, credential_bytes_max=65_536)
        for number, line in enumerate(text.splitlines(), 1)
    ]


def secret_of(one: Planned) -> dict[str, Any]:
    return json.loads(one.body)["credentials"]["secret"]


def test_the_query_makes_a_line_of_each_row(tmp_path: Path):
    query = tmp_path / "tokens.sql"
    query.write_text(block("docs/own-table.md", "sql"))
    try:
        with running_postgres() as server:
            psql = ("psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-v", "FETCH_COUNT=10000")
            there = (*psql, "-h", str(server.socket), "-U", "postgres")
            subprocess.run([*there, "-c", TABLE], check=True)
            made = subprocess.run([*there, "-f", query], check=True, capture_output=True, text=True)
    except CannotServeError as error:
        pytest.skip(str(error))

    google, slack = planned(made.stdout)
    assert str(google.command.granted_at) == "2026-01-01 00:00:00+00:00"
    assert google.command.alias == 'a"\\b\n@c'
    assert google.command.user_id == slack.command.user_id
    assert google.command.credentials is not None
    assert str(google.command.credentials.expires_at) == "2030-01-01 00:00:00+00:00"
    assert secret_of(google) == {
        "access_token": "at\\1",
        "refresh_token": "rt-1",
        "token_type": "Bearer",
        "scope": "a b",
    }
    assert slack.command.credentials is not None
    assert slack.command.credentials.expires_at is None
    assert secret_of(slack) == {"access_token": "at-2"}


class Nango(BaseHTTPRequestHandler):
    """Answers as its public documentation says."""

    busy = True

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        name = unquote(asked.path.removeprefix("/connections").removeprefix("/"))
        query = {key: value for key, [value] in parse_qs(asked.query).items()}
        if self.headers["Authorization"] != "Bearer nango-key":
            self.answer(401, {})
        elif name == "old" and Nango.busy:
            Nango.busy = False
            self.answer(429, {})
        elif not name:
            self.answer(200, {"connections": NANGO})
        elif name not in CREDENTIALS or query.get("refresh_token") != "true":
            self.answer(424, {})
        else:
            config = {"subdomain": "x", "n": 1}
            self.answer(200, {"credentials": CREDENTIALS[name], "connection_config": config})

    def answer(self, status: int, body: object) -> None:
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "0.01")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def nango() -> Generator[str]:
    with HTTPServer(("127.0.0.1", 0), Nango) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_script_makes_a_line_of_each_oauth2_connection_and_names_the_others(nango: str):
    script = block("docs/nango.md", "python", "import json, os")
    environment = {**os.environ, "NANGO_HOST": nango, "NANGO_SECRET_KEY": "nango-key"}

    made = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, env=environment
    )

    hubspot, github = planned(made.stdout)
    assert secret_of(hubspot) == {
        "access_token": "at",
        "refresh_token": "rt",
        "token_type": "bearer",
        "scope": None,
    }
    assert (hubspot.command.provider_slug, hubspot.command.alias) == ("hubspot", "a/b")
    assert hubspot.command.params == {"subdomain": "x"}
    assert hubspot.command.credentials is not None
    assert str(hubspot.command.credentials.expires_at) == "2030-01-01 00:00:00+00:00"
    assert secret_of(github)["access_token"] == "gho"
    assert made.stderr.splitlines() == ["hubspot dead: 424", "stripe key: API_KEY is not moved"]


def test_the_script_says_in_one_line_that_the_key_is_not_taken(nango: str):
    script = block("docs/nango.md", "python", "import json, os")
    environment = {**os.environ, "NANGO_HOST": nango, "NANGO_SECRET_KEY": "another"}

    made = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, env=environment
    )

    assert (made.returncode, made.stdout) == (1, "")
    assert made.stderr.splitlines() == [f"{nango}: HTTP Error 401: Unauthorized"]
