"""What the papers say of another prefix is true: its names, and how to make its permissions."""

import re
import subprocess
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from runtime.config import load_config
from runtime.daemon import run_daemon
from runtime.ledger.subjects import (
    bucket_name,
    event_markers,
    event_stream,
    heartbeat_subject,
    ledger_stream,
    ledger_subject,
    owner_subjects,
    tag_of,
)
from tests.conftest import ROOT
from tests.fakes.daemon_process import PlainCaller, plain_caller
from tests.fakes.nats_process import guarded_server
from tests.fakes.paper_shell import steps

PREFIX = "acme.tokens"
USERS = ("DAEMON", "APP", "TOKENS", "READER", "EVENTS", "AUDIT", "ADMIN", "SETUP")
FIRST_START = "$JS.API.STREAM.INFO.REFRESHD_EVENTS"


def test_the_table_of_names_is_what_the_code_says():
    paper = (ROOT / "docs/configuration.md").read_text()
    rows = re.findall(r"^\| [a-z].*? \| `(.*?)` \| `(.*?)` \|$", paper, re.MULTILINE)

    def names(prefix: str) -> list[str]:
        tag = tag_of(prefix)
        return [
            *(f"{prefix}.>", ledger_stream(0, tag), ledger_subject(0, tag)),
            *(bucket_name(0, tag), event_stream(tag), event_markers(tag)),
            *(f"{owner_subjects(tag)}>", heartbeat_subject(">", tag)),
        ]

    assert rows == [*zip(names("refreshd.v1"), names(PREFIX), strict=True)]


def permissions(folder: Path) -> str:
    """Return the permissions of SECURITY.md as its commands make them."""
    for script, _ in steps("SECURITY.md"):
        subprocess.run(["/bin/sh", "-e", "-c", script], cwd=folder, check=True)
    made = (folder / "acme.conf").read_text()
    assert f'"{FIRST_START}"' not in made
    return re.sub(
        r"(user: daemon,.*?publish:\s*\[)", rf'\1"{FIRST_START}", ', made, flags=re.DOTALL
    )


@pytest.fixture
async def guarded_url(tmp_path: Path) -> AsyncGenerator[str]:
    """A server with these users, each with the password ``pw``."""
    async with guarded_server(tmp_path, permissions(tmp_path), USERS) as url:
        yield url


async def test_the_permissions_for_another_prefix_suffice(guarded_url: str, tmp_path: Path):
    (tmp_path / "password").write_text("pw\n")
    environment = {
        "REFRESHD_NATS_URL": guarded_url,
        "REFRESHD_NATS_USER": "daemon",
        "REFRESHD_NATS_PASSWORD_FILE": str(tmp_path / "password"),
        "REFRESHD_NATS_INBOX_PREFIX": "_INBOX_acme",
        "REFRESHD_SERVICE_PREFIX": PREFIX,
    }
    config = load_config(None, environment=environment)

    connection_id = ""
    for start in (1, 2):
        async with (
            run_daemon(config, tmp_path / "data"),
            plain_caller(guarded_url, user="app", password="pw", inbox_prefix="_INBOX_app") as app,
            plain_caller(
                guarded_url, user="reader", password="pw", inbox_prefix="_INBOX_reader"
            ) as reader,
        ):
            caller = PlainCaller(app.client, prefix=PREFIX)
            connection_id = connection_id or await caller.connect()
            assert (await caller.refresh(connection_id)).code == "ok"
            assert (await caller.get(connection_id))["generation"] == start + 1
            listed = await PlainCaller(reader.client, prefix=PREFIX).ask("connections.list")
            assert [one["id"] for one in listed.body["ok"]["connections"]] == [connection_id]
