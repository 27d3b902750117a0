"""What docs/own-table.md and docs/nango.md give to copy makes lines that an import takes."""

import json
import os
import subprocess
import sys
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from bench.peers.servers import CannotServeError
from runtime.cli.import_line import Planned, read_line
from tests.fakes.papers import block
from tests.fakes.token_tables import NANGO_KEY, running_nango, running_table


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
        with running_table() as url:
            psql = ("psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-v", "FETCH_COUNT=10000")
            made = subprocess.run(
                [*psql, url, "-f", query], check=True, capture_output=True, text=True
            )
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


def test_the_program_that_decrypts_makes_a_line_of_each_row(capsys: pytest.CaptureFixture[str]):
    ids = {"user_id": uuid4(), "provider_id": uuid4()}
    ends_at = datetime(2030, 1, 1, tzinfo=UTC)
    row = SimpleNamespace(**ids, provider="google", expires_at=ends_at)
    names = {"rows": [row], "decrypt": lambda _row: {"access_token": "at", "refresh_token": "rt"}}

    exec(block("docs/own-table.md", "python"), names)  # noqa: S102 -- our own

    (google,) = planned(capsys.readouterr().out)
    assert (google.command.user_id, google.command.provider_slug) == (row.user_id, "google")
    assert google.command.credentials is not None
    assert google.command.credentials.expires_at == ends_at
    assert secret_of(google) == {"access_token": "at", "refresh_token": "rt"}


@pytest.fixture
def nango() -> Generator[str]:
    with running_nango() as url:
        yield url


def test_the_script_makes_a_line_of_each_oauth2_connection_and_names_the_others(nango: str):
    script = block("docs/nango.md", "python", "import json, os")
    environment = {**os.environ, "NANGO_HOST": nango, "NANGO_SECRET_KEY": NANGO_KEY}

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
