"""Each verb of the client against a daemon, and each way in which the daemon says no."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from refreshd_client import (
    ConnectionNotFoundError,
    Credentials,
    InvalidCommandError,
    InvalidCredentialsError,
    InvalidTransitionError,
    NotActiveError,
    NotOwnedByUserError,
    NotRefreshableError,
    ReauthRequiredError,
    Refreshd,
    TooLargeError,
    UnknownProviderError,
)

from tests.fakes.client_scene import PROVIDER_ID, USER_ID, ClientScene, credentials_of

pytestmark = pytest.mark.anyio


async def test_a_connection_is_made_looked_at_and_ended(scene: ClientScene, refreshd: Refreshd):
    grant = scene.provider.create()
    made = await refreshd.connect(
        user_id=USER_ID,
        provider_id=PROVIDER_ID,
        provider_slug="fake",
        credentials=credentials_of(grant),
        alias="mine",
    )
    await refreshd.synced(made.connection_id)
    shown = await refreshd.get(made.connection_id)
    await refreshd.disconnect(made.connection_id, USER_ID)
    ended = await refreshd.get(made.connection_id)

    assert made.warnings == ()
    assert (shown.id, shown.user_id, shown.provider_id) == (
        made.connection_id,
        USER_ID,
        PROVIDER_ID,
    )
    assert (shown.status, shown.generation, shown.alias) == ("active", 1, "mine")
    assert shown.last_sync_at is not None
    assert shown.credentials is not None
    assert shown.credentials.credential_type == "oauth2"
    assert (ended.status, ended.credentials) == ("disconnected", None)


async def test_a_pending_connection_gets_its_credentials_later_or_fails(
    scene: ClientScene, refreshd: Refreshd
):
    first, second = str(uuid4()), str(uuid4())
    for one in (first, second):
        await refreshd.connect(
            connection_id=one,
            user_id=USER_ID,
            provider_id=PROVIDER_ID,
            provider_slug="fake",
            credentials=None,
        )
    assert (await refreshd.get(first)).status == "pending"

    await scene.connect(first, scene.provider.create())
    await refreshd.fail(second, "the user has not come back")

    assert (await refreshd.get(first)).status == "active"
    assert (await refreshd.get(second)).status == "failed"


async def test_what_a_token_endpoint_has_answered_is_connected_as_it_is(
    scene: ClientScene, refreshd: Refreshd
):
    grant = scene.provider.create()
    answer = {
        "access_token": grant.access_token,
        "refresh_token": grant.refresh_token,
        "expires_in": "3600",
        "scope": "read",
        "id_token": "kept",
    }

    credentials = Credentials.from_token_response(answer)
    made = await refreshd.connect(
        user_id=USER_ID, provider_id=PROVIDER_ID, provider_slug="fake", credentials=credentials
    )
    token = await refreshd.token(made.connection_id)

    assert token.access_token == grant.access_token
    assert token.expires_at is not None
    assert timedelta(seconds=3590) < token.expires_at - datetime.now(UTC) <= timedelta(hours=1)
    assert token.expires_in_s is not None
    assert 3590 < token.expires_in_s <= 3600


@pytest.mark.parametrize(
    ("told", "ends_at"),
    [
        ({"expires_at": 1_800_000_000.5, "expires_in": 3600}, 1_800_000_000.5),
        ({"expires_at": "1800000000"}, 1_800_000_000.0),
        ({"expires_at": None}, None),
        ({}, None),
    ],
)
def test_an_end_that_a_library_has_reckoned_comes_before_a_lifetime_that_has_begun_before(
    told: dict[str, object], ends_at: float | None
):
    credentials = Credentials.from_token_response({"access_token": "a", **told})

    assert ends_at == (credentials.expires_at and credentials.expires_at.timestamp())


def test_a_lifetime_of_nothing_ends_now():
    ends_at = Credentials.from_token_response({"access_token": "a", "expires_in": 0}).expires_at

    assert ends_at is not None
    assert abs((ends_at - datetime.now(UTC)).total_seconds()) < 5


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({}, "access_token"),
        ({"access_token": "a", "expires_in": "soon"}, "expires_in"),
        ({"access_token": "a", "expires_in": 1e300}, "expires_in"),
        ({"access_token": "a", "expires_at": "2026-01-01"}, "expires_at"),
        ({"access_token": "a", "expires_at": 1e300}, "expires_at"),
        ({"access_token": "a", "expires_in": float("nan")}, "expires_in"),
    ],
)
def test_what_is_no_token_response_is_refused_by_field_and_not_quoted(
    answer: dict[str, object], says: str
):
    with pytest.raises(ValueError, match=says):
        Credentials.from_token_response(answer)


async def test_new_credentials_replace_the_old_ones_and_their_token_at_once(
    scene: ClientScene, refreshd: Refreshd
):
    connection_id, _ = await scene.connected()
    before = await refreshd.token(connection_id)
    grant = scene.provider.create()

    await refreshd.refresh(connection_id, credentials_of(grant))
    after = await refreshd.token(connection_id)

    assert (before.generation, after.generation) == (1, 2)
    assert after.access_token == grant.access_token


async def test_a_list_follows_the_cursor_to_its_end_and_knows_what_it_is_asked_for(
    scene: ClientScene, refreshd: Refreshd
):
    user_id = uuid4()
    made: set[UUID] = set()
    for _ in range(5):
        done = await refreshd.connect(
            user_id=user_id,
            provider_id=PROVIDER_ID,
            provider_slug="fake",
            credentials=credentials_of(scene.provider.create()),
        )
        made.add(done.connection_id)
    revoked = min(made)
    await refreshd.revoke(revoked)

    everything = [one.id async for one in refreshd.list(user_id=user_id, page=2)]
    active = [one.id async for one in refreshd.list(user_id=user_id, status="active")]
    waiting = [one async for one in refreshd.list(user_id=user_id, needs_action=True)]

    assert set(everything) == made
    assert set(active) == made - {revoked}
    [(needing, why)] = [(one.id, one.needs_action) for one in waiting]
    assert needing == revoked
    assert why is not None
    assert why.startswith("the connection is revoked since ")


async def test_a_token_that_has_ended_is_refreshed_once_for_all_who_ask(scene: ClientScene):
    connection_id, _ = await scene.connected(lives_s=-1.0)

    tokens = await asyncio.gather(*(scene.refreshd.token(connection_id) for _ in range(100)))

    assert {token.generation for token in tokens} == {2}
    assert {token.stale for token in tokens} == {False}
    assert len({token.access_token for token in tokens}) == 1
    assert scene.provider.stats.calls == 1


async def test_each_refusal_is_an_exception_of_its_kind_with_what_was_told(
    scene: ClientScene, refreshd: Refreshd
):
    connection_id, grant = await scene.connected(lives_s=-1.0)

    with pytest.raises(ConnectionNotFoundError) as not_found:
        await refreshd.token(uuid4())
    with pytest.raises(NotOwnedByUserError):
        await refreshd.disconnect(connection_id, uuid4())
    with pytest.raises(InvalidTransitionError) as invalid:
        await refreshd.fail(connection_id)
    with pytest.raises(InvalidCredentialsError):
        await refreshd.refresh(connection_id, Credentials(credential_type="none", secret={"a": 1}))
    with pytest.raises(InvalidCommandError, match="min_ttl_s"):
        await refreshd.token(connection_id, min_ttl_s=-1.0)
    with pytest.raises(TooLargeError):
        await refreshd.refresh(connection_id, Credentials(secret={"access_token": "a" * 70_000}))
    with pytest.raises(TooLargeError):
        await refreshd.refresh(connection_id, Credentials(secret={"access_token": "a" * 2**21}))
    scene.revoke(grant)
    with pytest.raises(ReauthRequiredError) as dead:
        await refreshd.token(connection_id)

    assert not_found.value.code == "CONNECTION_NOT_FOUND"
    assert str(not_found.value) == "CONNECTION_NOT_FOUND: Connection not found"
    assert invalid.value.message_id
    assert not invalid.value.may_be_done
    assert dead.value.needs_user_action
    await refreshd.disconnect(connection_id, USER_ID)
    with pytest.raises(NotActiveError):
        await refreshd.token(connection_id)


async def test_what_cannot_be_refreshed_is_told_so(scene: ClientScene, refreshd: Refreshd):
    sealed = Credentials(encrypted_data=b"sealed elsewhere")
    unknown = credentials_of(scene.provider.create(), lives_s=-1.0)
    ids: list[UUID] = []
    for slug, credentials in (("fake", sealed), ("nobody", unknown)):
        made = await refreshd.connect(
            user_id=USER_ID, provider_id=PROVIDER_ID, provider_slug=slug, credentials=credentials
        )
        ids.append(made.connection_id)

    with pytest.raises(NotRefreshableError):
        await refreshd.token(ids[0])
    with pytest.raises(UnknownProviderError):
        await refreshd.token(ids[1])
    assert made.warnings != ()


@pytest.mark.parametrize("wrong", ["", "x", "a.b", ">", "7f9c24e8-3b12-4f0a-9d56-1c2b3a4d5e6"])
async def test_an_id_that_is_none_is_not_sent(refreshd: Refreshd, wrong: str):
    with pytest.raises(InvalidCommandError, match="connection_id"):
        await refreshd.token(wrong)
    with pytest.raises(InvalidCommandError, match="connection_id"):
        await refreshd.revoke(wrong)


async def test_an_id_in_capitals_is_the_same_connection(scene: ClientScene):
    connection_id, _ = await scene.connected()

    shown = await scene.refreshd.get(connection_id.upper())

    assert str(shown.id) == connection_id
