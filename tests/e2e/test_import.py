"""``refreshd import``: each line is taken or told of, and nothing is made twice."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.fakes.daemon_process import (
    ROOT,
    DaemonProcess,
    PlainCaller,
    clean_environment,
    daemon_process,
    external_nats,
    plain_caller,
)
from tests.fakes.eventually import eventually
from tests.fakes.import_files import CANARY, grant, imported, line, numbered, text_of
from tests.fakes.refreshd_command import refreshd

MANY = 400


async def one(caller: PlainCaller, user_id: str) -> dict[str, Any]:
    """Return the one connection that a user has."""
    answer = await caller.ask("connections.list", {"user_id": user_id})
    [connection] = answer.body["ok"]["connections"]
    return connection


async def test_each_line_becomes_a_connection_and_a_second_run_changes_nothing(
    tmp_path: Path, daemon: DaemonProcess, caller: PlainCaller
):
    named = str(uuid4())
    lines = [
        line(alias="work", params={"region": "eu"}, connection_id=named),
        line(credentials=grant(expires_at=1_900_000_000)),
        line(
            credentials=grant(expires_at=None, created_at=1_900_000_000, expires_in=3600),
            granted_at="2026-01-01T00:00:00Z",
            grant_expires_at=2_000_000_000,
            refresh="on_demand",
        ),
        line(credentials={"credential_type": "api_key", "encrypted_data": "b3BhcXVl"}),
        line(credentials=None, pending=True),
    ]

    first = await imported(tmp_path, daemon.data_dir, text_of(*lines))
    again = await imported(tmp_path, daemon.data_dir, text_of(*reversed(lines)))

    assert (first.code, first.rejects) == (again.code, again.rejects) == (0, [])
    assert first.told["lines"] == first.told["imported"] == again.told["imported"] == 5
    assert "no profile is configured for provider schwab" in first.stderr
    found = [await one(caller, given["user_id"]) for given in lines]
    assert (found[0]["id"], found[0]["alias"]) == (named, "work")
    assert found[0]["params"] == {"region": "eu"}
    assert found[1]["credentials"]["expires_at"] == "2030-03-17T17:46:40Z"
    assert found[2]["credentials"]["expires_at"] == "2030-03-17T18:46:40Z"
    assert found[2]["grant_expires_at"] == "2033-05-18T03:33:20Z"
    assert found[2]["refresh"] == "on_demand"
    assert found[3]["credentials"] == {"credential_type": "api_key", "expires_at": None}
    assert [one["status"] for one in found] == [*["active"] * 4, "pending"]
    stories = await caller.stories()
    assert all(len(stories[connection["id"]]) == 2 for connection in found)


async def test_every_broken_line_is_told_by_number_and_reason_and_the_others_are_taken(
    tmp_path: Path, daemon: DaemonProcess, caller: PlainCaller
):
    twice, good = line(), [line() for _ in range(4)]
    large: dict[str, Any] = {"secret": {"access_token": CANARY * 5_000}}
    broken: list[tuple[bytes, str]] = [
        (b'{"user_id": "%b' % CANARY.encode(), "INVALID_COMMAND: the line is not JSON"),
        (b'["%b"]' % CANARY.encode(), "INVALID_COMMAND: the line is not a JSON object"),
        (b"\xff\xfe" + CANARY.encode(), "INVALID_COMMAND: the line is not UTF-8"),
        (text_of(line()).strip() + b"\0", "INVALID_COMMAND: the line is not JSON"),
        (b"[" * 90_000, "INVALID_COMMAND: the line is n"),
        (
            b'{"a":"%b"}' % (b"x" * 200_000),
            "TOO_LARGE: the line is too large: at most 103765 bytes",
        ),
        (text_of(line(credentials=grant(**large))), "TOO_LARGE: credentials are 95020 bytes"),
        (text_of(line(nope=CANARY)), "INVALID_COMMAND: Object contains unknown field `nope`"),
        (text_of(line(user_id="7")), "INVALID_COMMAND: Invalid UUID - at `$.user_id`"),
        (text_of(line(provider_slug="A b")), "INVALID_COMMAND: 1-50 of a-z, 0-9, _ and - are"),
        (text_of(line(alias="a" * 101)), "INVALID_COMMAND: Expected `str` of length <= 100"),
        (text_of(line(credentials=None)), "INVALID_CREDENTIALS: Invalid or missing credentials"),
        (
            text_of(line(credentials={"credential_type": "api_key", "encrypted_data": "=%="})),
            "INVALID_COMMAND: Invalid base64 - at `$.credentials.encrypted_data`",
        ),
        (
            text_of(line(credentials=grant(expires_at=None, expires_in=60))),
            "INVALID_COMMAND: expires_in: created_at is needed beside it",
        ),
        (
            text_of(line(credentials=grant(expires_at="2026-01-01T00:00:00"))),
            "INVALID_COMMAND: expires_at: neither RFC 3339 with a time zone nor seconds",
        ),
        (
            text_of(line(credentials=grant(expires_at=1_790_000_000_000))),
            "INVALID_COMMAND: expires_at: the time is out of range: seconds since 1970 are wanted, not",
        ),
        (
            text_of(line(granted_at="1790000000")),
            "INVALID_COMMAND: granted_at: seconds since 1970 are a number, without quotes - at `$.gr",
        ),
        (
            b"user_id,provider_slug",
            "INVALID_COMMAND: the line is not JSON: one object a line is wanted (NDJSON)",
        ),
        (
            text_of(twice | {"credentials": grant(7)}),
            "DUPLICATE: line 1 names the same connection, with other values: take the older one",
        ),
    ]
    text = b"\xef\xbb\xbf" + text_of(twice) + b"\r\n  \n" + text_of(good[0]).strip() + b"\r\n"
    text += b"".join(part.strip() + b"\n" for part, _ in broken)
    text += text_of(*good[1:], twice).rstrip()

    run = await imported(tmp_path, daemon.data_dir, text)

    assert run.code == 1
    assert run.reasons.keys() == set(range(5, 5 + len(broken)))
    for number, (_, reason) in enumerate(broken, 5):
        assert run.reasons[number].startswith(reason), number
    assert (run.told["lines"], run.told["imported"], run.told["repeated"]) == (25, 5, 1)
    assert run.told["rejected"] == len(broken)
    assert f"{len(broken)} lines were rejected: see {tmp_path}/rejected" in run.stderr
    assert CANARY not in json.dumps(run.rejects) + run.stdout + run.stderr
    for given in (twice, *good):
        assert (await one(caller, given["user_id"]))["status"] == "active"


@pytest.mark.parametrize("text", [b"", b"\n\r\n  \n", b"\xef\xbb\xbf"])
async def test_a_file_without_lines_is_no_error(tmp_path: Path, daemon: DaemonProcess, text: bytes):
    run = await imported(tmp_path, daemon.data_dir, text)

    assert (run.code, run.rejects, run.told["lines"]) == (0, [], 0)
    assert "there was no line to import" in run.stderr


async def test_standard_input_is_a_file_as_well(
    tmp_path: Path, daemon: DaemonProcess, caller: PlainCaller
):
    lines = [line() for _ in range(3)]

    run = await imported(tmp_path, daemon.data_dir, text_of(*lines), stdin=True)

    assert (run.code, run.told["imported"]) == (0, 3)
    for given in lines:
        assert (await one(caller, given["user_id"]))["generation"] == 1


async def test_a_dry_run_tells_the_rejects_and_changes_nothing(
    tmp_path: Path, daemon: DaemonProcess, caller: PlainCaller
):
    given = line()
    text = text_of(given, line(nope=1))

    run = await imported(tmp_path, daemon.data_dir, text, "--dry-run")
    alone = await imported(tmp_path, tmp_path / "nowhere", text, "--dry-run")

    assert run.code == alone.code == 1
    assert run.told == alone.told
    assert (run.told["lines"], run.told["rejected"], run.told["dry_run"]) == (2, 1, True)
    assert run.reasons.keys() == {2}
    answer = await caller.ask("connections.list", {"user_id": given["user_id"]})
    assert answer.body["ok"]["connections"] == []


async def test_what_is_active_gets_newer_tokens_and_keeps_those_that_are_not(
    tmp_path: Path, daemon: DaemonProcess, caller: PlainCaller
):
    given = line()
    newer = given | {"credentials": grant(2, expires_at="2099-01-02T00:00:00Z")}
    told: list[dict[str, Any]] = []

    for one_line in (given, newer, given | {"credentials": grant(3)}, newer):
        run = await imported(tmp_path, daemon.data_dir, text_of(one_line))
        assert run.code == 0, run.stderr
        told.append(run.told)

    assert [one["imported"] for one in told] == [1, 0, 0, 0]
    assert [one["updated"] for one in told] == [0, 1, 0, 0]
    assert [one["kept"] for one in told] == [0, 0, 1, 1]
    connection = await one(caller, given["user_id"])
    assert connection["generation"] == 2
    answer = await caller.ask(f"connection.{connection['id']}.token")
    assert answer.body["ok"]["access_token"] == f"at-{CANARY}-2"


async def test_what_has_ended_is_connected_again_and_what_is_anothers_is_not(
    tmp_path: Path, daemon: DaemonProcess, caller: PlainCaller
):
    lines = [line(), line(), line()]
    assert (await imported(tmp_path, daemon.data_dir, text_of(*lines))).code == 0
    ids = [(await one(caller, given["user_id"]))["id"] for given in lines]
    newer = [given | {"credentials": grant(2)} for given in lines]
    # An import that finds the first one active is remembered; later it is not.
    assert (await imported(tmp_path, daemon.data_dir, text_of(newer[0]))).told["kept"] == 1
    await caller.ask(f"connection.{ids[0]}.expire")
    await caller.ask(f"connection.{ids[1]}.disconnect", {"user_id": lines[1]["user_id"]})
    newer[2] |= {"user_id": str(uuid4()), "connection_id": ids[2]}

    run = await imported(tmp_path, daemon.data_dir, text_of(*newer))

    assert run.told["imported"] == 1
    assert run.reasons == {
        2: "INVALID_TRANSITION: Cannot transition to ACTIVE from current state: "
        "the connection is disconnected",
        3: "INVALID_COMMAND: user_id is not the one that the connection is stored with",
    }
    found = await one(caller, lines[0]["user_id"])
    assert (found["status"], found["generation"]) == ("active", 2)


async def test_an_import_that_was_killed_is_repeated_and_makes_nothing_twice(tmp_path: Path):
    file = tmp_path / "lines.ndjson"
    file.write_bytes(text_of(*numbered(MANY)))
    async with (
        daemon_process(tmp_path / "data") as daemon,
        plain_caller(**daemon.context) as caller,
    ):

        async def stored() -> int:
            return sum((await caller.by_status()).values())

        for part in (1, 2):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "ignore", "-m", "runtime", "import", str(file)),
                *("--data-dir", str(daemon.data_dir), "--in-flight", "4"),
                cwd=ROOT,
                env=clean_environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

            async def is_far_enough(wanted: int = part * MANY // 4) -> bool:
                return await stored() >= wanted

            await eventually(is_far_enough, within_s=30)
            process.send_signal(signal.SIGKILL)
            await process.wait()
        assert MANY // 2 <= await stored() < MANY

        ended = await refreshd("import", str(file), "--data-dir", str(daemon.data_dir))

        assert ended.code == 0, ended.stderr
        assert await stored() == MANY
        stories = await caller.stories()
    assert len(stories) == MANY
    for story in stories.values():
        types = [event["type"] for event in story]
        assert types == ["ProviderConnectionAttempted", "ProviderConnectionSucceeded"]


async def test_an_import_outlives_the_daemons_death(tmp_path: Path):
    file = tmp_path / "lines.ndjson"
    file.write_bytes(text_of(*numbered(MANY)))
    async with external_nats(tmp_path) as server, plain_caller(server.url) as caller:
        arguments = (tmp_path / "data", "--nats", server.url)
        async with daemon_process(*arguments) as daemon:
            importing = asyncio.create_task(
                refreshd("import", str(file), "--nats", server.url, "--in-flight", "4")
            )

            async def has_begun() -> bool:
                return sum((await caller.by_status()).values()) >= MANY // 8

            await eventually(has_begun, within_s=30)
            await daemon.stop(signal.SIGKILL)
        async with daemon_process(*arguments):
            ended = await importing
            assert ended.code == 0, ended.stderr
            stories = await caller.stories()
    assert len(stories) == MANY
    assert all(len(story) == 2 for story in stories.values())


async def test_a_daemon_that_is_full_is_sent_the_same_lines_again(tmp_path: Path):
    environment = {"REFRESHD_SERVICE_LIMITS_COMMANDS_MAX": "8"}
    async with (
        daemon_process(tmp_path / "data", environment=environment) as daemon,
        plain_caller(**daemon.context) as caller,
    ):
        run = await imported(tmp_path, daemon.data_dir, text_of(*numbered(100)))

        assert (run.code, run.told["imported"]) == (0, 100), run.stderr
        assert len(await caller.stories()) == 100


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("/nowhere/lines",), "/nowhere/lines: No such file"),
        (("/",), "/: Is a directory"),
        (("{file}", "--rejects", "{file}"), "that is the file to import"),
        (("{file}", "--rejects", "/nowhere/rejects"), "name another file"),
        (("{file}", "--in-flight", "0"), "--in-flight"),
    ],
)
async def test_wrong_usage_is_2_and_leaves_the_file_as_it_is(
    tmp_path: Path, arguments: tuple[str, ...], said: str
):
    file = tmp_path / "lines"
    file.write_bytes(text_of(line()))
    before = file.read_bytes()

    ended = await refreshd("import", *(part.format(file=file) for part in arguments))

    assert ended.code == 2
    assert said in ended.stderr
    assert file.read_bytes() == before


async def test_without_a_daemon_it_is_said_at_once(tmp_path: Path):
    run = await imported(tmp_path, tmp_path / "nowhere", text_of(line()))

    assert run.code == 69
