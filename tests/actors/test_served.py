"""What is served to a caller of a token, and what it is told where nothing can be."""

from datetime import timedelta
from typing import Any

import anyio
import msgspec
import pytest

from domain.commands import GetToken, Refresh
from domain.credentials import Credentials, CredentialType, Opaque, Sealed, Secret, Unsealed
from domain.decision import AccessToken
from domain.result import Failure, FailureCode
from tests.fakes.commands import connection_number
from tests.fakes.gates import paused
from tests.fakes.token_scene import ID, Scene
from tests.fakes.world import EPOCH


async def _connected(scene: Scene, lives_s: float = 1000.0, **secret: str) -> None:
    command = scene.connect(lives_s=lives_s)
    assert isinstance(command.credentials, Unsealed)
    credentials = msgspec.structs.replace(
        command.credentials, secret=Secret(msgspec.json.encode(secret))
    )
    await scene.stage.ask(msgspec.structs.replace(command, credentials=credentials))


async def test_a_token_is_served_with_all_that_is_known_of_it() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await _connected(scene, access_token="a1", refresh_token="r1", token_type="mac")

        assert await scene.token() == AccessToken(
            access_token="a1",
            token_type="mac",
            expires_at=EPOCH + timedelta(seconds=1000.0),
            generation=1,
            stale=False,
            expires_in_s=1000,
            endpoint_base=None,
            detail=None,
        )


@pytest.mark.parametrize(("lives_s", "told_s"), [(1000.9, 700), (None, None)])
async def test_a_token_tells_how_many_whole_seconds_are_left_of_it(
    lives_s: float | None, told_s: int | None
) -> None:
    scene = Scene()
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=lives_s))
        await anyio.sleep(300.5)
        served = await scene.token()

    assert isinstance(served, AccessToken)
    assert served.expires_in_s == told_s


async def test_a_stale_token_is_served_with_what_the_refresh_has_failed_for() -> None:
    scene = Scene()
    scene.provider.before = lambda _: scene.provider.answered(503, {})
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=30.0))
        served, again = await scene.token(), await scene.token()
        refused = await scene.refused(if_generation=1)

        assert isinstance(served, AccessToken)
        assert served.stale
        assert served.detail == refused.message
        assert isinstance(again, AccessToken)
        assert again.stale
        assert again.detail


@pytest.mark.parametrize("lives_s", [30.0, 0.12])
async def test_after_a_failed_flight_only_a_token_that_lives_and_was_not_rejected_is_served(
    lives_s: float,
) -> None:
    scene = Scene()
    scene.provider.before = lambda _: scene.provider.answered(503, {})
    scene.provider.takes_s = 0.5
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=lives_s))
        asked = [
            scene.stage.send(GetToken(connection_id=ID, if_generation=rejected, force=True))
            for rejected in (None, 1)
        ]
        for one in asked:
            await one.answered.wait()

        lives, rejected = asked
        assert rejected.code is FailureCode.PROVIDER_UNAVAILABLE
        assert lives.code is (None if lives_s > 1.0 else FailureCode.PROVIDER_UNAVAILABLE)


async def test_credentials_without_an_access_token_cannot_be_refreshed() -> None:
    scene = Scene()
    async with scene.stage.opened():
        await _connected(scene, refresh_token="r1")

        refused = await scene.refused()
        assert refused.code is FailureCode.NOT_REFRESHABLE
        assert "no access token" in refused.message
    assert scene.provider.presented == []


async def test_where_the_access_token_itself_is_presented_no_refresh_token_is_needed() -> None:
    scene = Scene(presents="access_token")
    scene.provider.live = "a1"
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(presented=None))

        assert await scene.fresh() == "a2"
    assert scene.provider.presented == ["a1"]


async def test_credentials_that_do_not_open_are_the_operators_and_told_to_the_journal() -> None:
    scene = Scene()
    ledger = scene.stage.ledger
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
    stored = ledger.records[ID]
    connection = stored.connection
    assert connection is not None
    assert connection.credentials is not None
    foreign = msgspec.structs.replace(
        connection.credentials, payload=Sealed(key_id="plain", nonce=b"?", ciphertext=b"?")
    )
    ledger.records[ID] = stored._replace(
        connection=msgspec.structs.replace(connection, credentials=foreign)
    )
    again = scene.restarted()
    async with again.opened():
        refused = await again.ask(GetToken(connection_id=ID))

    assert isinstance(refused, Failure)
    assert refused.code is FailureCode.PROVIDER_MISCONFIGURED
    assert refused.needs_user_action is False
    assert "cannot be unsealed" in refused.message
    assert again.journal.told == [("cannot_unseal", ID)]


async def test_a_flight_that_ends_with_credentials_that_do_not_open_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    sealer = scene.stage.directory.world.sealer
    seal = sealer.seal

    def for_another(*asked: Any, **of: Any) -> Sealed:
        return msgspec.structs.replace(seal(*asked, **of), nonce=b"?")

    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        monkeypatch.setattr(sealer, "seal", for_another)
        refused = await scene.refused()

    assert refused.code is FailureCode.PROVIDER_MISCONFIGURED
    assert "cannot be unsealed" in refused.message


async def test_a_token_of_an_unknown_provider_is_served_while_it_lives() -> None:
    scene = Scene()
    unknown = msgspec.structs.replace(scene.connect(lives_s=1000.0), provider_slug="unknown")
    async with scene.stage.opened():
        await scene.stage.ask(unknown)
        assert await scene.fresh() == "a1"
        await anyio.sleep(2000.0)

        assert (await scene.refused()).code is FailureCode.UNKNOWN_PROVIDER


async def test_who_has_failed_at_a_paused_client_is_told_when_its_own_turn_comes() -> None:
    scene = Scene()
    gate = scene.stage.providers.gates.of(
        scene.profile, scene.provider.place(scene.profile, None, None)
    )
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        scene.provider.before = lambda _: scene.provider.answered(503, {})
        await scene.refused()
        paused(gate)
        refused = await scene.refused()
        mine, newcomers = gate.closed(ID), gate.closed(connection_number(9))

    assert mine is not None
    assert newcomers is not None
    assert newcomers.left_s < mine.left_s
    assert refused.retry_after_s == pytest.approx(mine.left_s, abs=0.2)


async def test_callers_of_a_flight_are_answered_though_its_credentials_were_replaced_by_opaque_ones() -> (
    None
):
    scene = Scene(max_concurrency=1)
    stage, other = scene.stage, connection_number(2)
    opaque = Credentials(
        credential_type=CredentialType.OAUTH2, payload=Opaque(data=b"?"), expires_at=None
    )
    async with stage.opened():
        for one in (ID, other):
            await stage.ask(msgspec.structs.replace(scene.connect(), connection_id=one))
        scene.provider.takes_s = 5.0
        stage.send(GetToken(connection_id=other))
        await anyio.sleep(0.5)
        asked = stage.send(GetToken(connection_id=ID), patience_s=60.0)
        await anyio.sleep(0.5)
        await stage.ask(Refresh(connection_id=ID, credentials=opaque))
        stage.directory.refrain()
        await anyio.sleep(0.5)

    assert asked.code is FailureCode.SHUTTING_DOWN
    assert stage.journal.errors == []
