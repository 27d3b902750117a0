"""The peers that the daemon is measured against do what it does: answers, events, what is stored."""

import asyncio
import os
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from bench.bodies import credentials
from bench.peers import servers
from bench.peers.handling import answer
from bench.peers.measuring import PEERS, Servers, measure, running_nats, running_peer
from bench.peers.opening import Settings, Way, keyring_of, open_peer
from bench.peers.servers import CannotServeError, Package, Server, running_postgres, running_redis
from bench.peers.store import (
    BrokenLawError,
    Pool,
    add_connections,
    audit,
    create_tables,
    open_pool,
)
from domain.commands import Refresh
from domain.connection import ConnectionStatus
from domain.decision import decide
from runtime.gateway.replies import reply_body
from runtime.ledger.sealing import UnsealError
from runtime.world import Uuid7Ids
from tests.fakes.connections import active

KEY = bytes(32)
DONE = b'{"ok":null}'
FILLED = msgspec.json.encode({"credentials": credentials(1)})


@pytest.fixture(scope="module")
def postgres() -> Generator[Server]:
    try:
        with running_postgres() as server:
            yield server
    except CannotServeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def redis() -> Generator[Server]:
    try:
        with running_redis() as server:
            yield server
    except CannotServeError as error:
        pytest.skip(str(error))


@pytest.fixture(params=list(Way))
def settings(request: pytest.FixtureRequest, postgres: Server) -> Settings:
    way: Way = request.param
    redis = request.getfixturevalue("redis").socket if way is Way.REDIS_LOCK else None
    return Settings(
        way=way,
        key=KEY,
        postgres=str(postgres.socket),
        database="postgres",
        pool=4,
        redis=redis and str(redis),
    )


@pytest.fixture
async def pool(settings: Settings) -> AsyncGenerator[Pool]:
    """The peer's database, with empty tables."""
    async with open_pool(Path(settings.postgres), settings.database, size=1) as opened:
        await opened.execute("DROP TABLE IF EXISTS connection, event")
        await create_tables(opened)
        yield opened


def new_ids(count: int) -> list[UUID]:
    return [one for one, _ in zip(Uuid7Ids(), range(count), strict=False)]


async def test_a_refresh_is_one_generation_and_two_events_in_order(settings: Settings, pool: Pool):
    ids = new_ids(3)
    await add_connections(pool, ids, keyring_of(KEY))

    async with open_peer(settings) as peer:
        answers = await asyncio.gather(
            *(answer(peer, str(ids[number % 3]), FILLED) for number in range(24))
        )

    assert answers == [DONE] * 24
    await audit(pool, keyring_of(KEY), refreshes=24)


@pytest.mark.parametrize("case", ["unknown", "no_credentials", "revoked", "malformed"])
async def test_a_refusal_is_answered_and_told_as_the_daemon_does(
    settings: Settings, pool: Pool, case: str
):
    [one] = new_ids(1)
    status = ConnectionStatus.REVOKED if case == "revoked" else ConnectionStatus.ACTIVE
    if case != "unknown":
        await add_connections(pool, [one], keyring_of(KEY), status=status)
    before = await pool.fetch("SELECT * FROM connection")
    body = {"no_credentials": b'{"credentials":null}', "malformed": b"{"}.get(case, FILLED)

    async with open_peer(settings) as peer:
        answered = await answer(peer, str(one), body)

    assert await pool.fetch("SELECT * FROM connection") == before
    told = await pool.fetch("SELECT type, reason, needs_user_action FROM event ORDER BY seq")
    if case == "malformed":
        assert b"INVALID_COMMAND" in answered
        assert not told
        return
    connection = msgspec.structs.replace(active(one), status=status)
    has_none = case == "no_credentials"
    command = Refresh(
        connection_id=one,
        credentials=None if has_none else connection.credentials,
        unusable="credentials are null" if has_none else None,
    )
    decision = decide(
        None if case == "unknown" else connection, command, now=datetime.now(UTC), ids=Uuid7Ids()
    )
    assert answered == reply_body(decision.reply)
    assert [tuple(row) for row in told] == [
        (
            type(event).__name__,
            getattr(event, "reason", None),
            getattr(event, "needs_user_action", None),
        )
        for event in decision.events
    ]


BREACHES = {
    "an update that another overwrote": "UPDATE connection SET generation = generation - 1",
    "an event that is missing": "DELETE FROM event WHERE seq = (SELECT max(seq) FROM event)",
    "an event that is there twice": "UPDATE event SET id = (SELECT id FROM event LIMIT 1)",
    "events in another order": "UPDATE event SET type = 'ProviderTokenRefreshSucceeded'"
    " WHERE seq = 1",
    "a ciphertext of another generation": "UPDATE connection SET sealed_for = sealed_for + 1",
    "a refresh that nobody was answered": "UPDATE connection SET generation = generation + 1;"
    " INSERT INTO event (id, connection_id, type, occurred_at, user_id, provider_id,"
    " provider_slug) SELECT gen_random_uuid(), connection_id, type, occurred_at, user_id,"
    " provider_id, provider_slug FROM event ORDER BY seq LIMIT 2",
}


@pytest.mark.parametrize("settings", [Way.FOR_UPDATE], indirect=True)
@pytest.mark.parametrize("breach", BREACHES)
async def test_the_audit_finds(settings: Settings, pool: Pool, breach: str):
    [one] = new_ids(1)
    await add_connections(pool, [one], keyring_of(KEY))
    async with open_peer(settings) as peer:
        for _ in range(3):
            await answer(peer, str(one), FILLED)
    await audit(pool, keyring_of(KEY), refreshes=3)

    await pool.execute(BREACHES[breach])

    with pytest.raises((BrokenLawError, UnsealError)):
        await audit(pool, keyring_of(KEY), refreshes=3)


@pytest.mark.parametrize("name", ["a", "c"])
async def test_a_peer_in_a_process_of_its_own_is_measured(
    postgres: Server, tmp_path: Path, name: str
):
    async with (
        running_nats(tmp_path / "nats") as nats,
        running_peer(PEERS[name], Servers(postgres, nats=nats), pool=2) as peer,
    ):
        await peer.connect(3)

        measured = await measure(peer, callers=4, requests=20, connections=3)

    assert measured.rate > 0
    assert 0 < measured.p50_ms <= measured.p99_ms
    assert measured.memory_mb > 20


def test_a_server_ends_with_its_folder():
    try:
        with running_postgres() as server:
            assert server.socket.exists()
    except CannotServeError as error:
        pytest.skip(str(error))

    assert not server.socket.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


@pytest.mark.parametrize(
    ("has_apt_get", "user", "reason"),
    [(False, 0, "there is no apt-get"), (True, 1000, "only root may")],
)
def test_what_cannot_be_installed_is_told(
    monkeypatch: pytest.MonkeyPatch, has_apt_get: bool, user: int, reason: str
):
    found = "/usr/bin/apt-get" if has_apt_get else None
    monkeypatch.setattr(servers.shutil, "which", lambda name: found if name == "apt-get" else None)
    monkeypatch.setattr(servers.os, "getuid", lambda: user)

    with pytest.raises(CannotServeError, match=f"redis-server not found, .*{reason}"):
        servers.ensure_installed(Package.REDIS)
