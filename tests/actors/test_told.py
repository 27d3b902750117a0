"""What a provider tells beside its tokens reaches callers, and so does what is missing."""

import pytest

from domain.connection import ProviderConnection
from domain.decision import AccessToken
from domain.exchange import SCOPE_CHARS_MAX, Exchange
from domain.profile import AnswerPaths
from tests.fakes.commands import get
from tests.fakes.token_scene import ID, Scene


async def _shown(scene: Scene) -> ProviderConnection:
    reply = await scene.stage.ask(get(ID))
    value = getattr(reply, "value", None)
    assert isinstance(value, ProviderConnection)
    return value


def _answers(scene: Scene, **more: object) -> None:
    """Let the provider tell more beside what it issues."""
    fields = {"access_token": "a2", "refresh_token": "r2", "expires_in": 3600} | more

    def answer(_exchange: Exchange) -> Exchange:
        return scene.provider.answered(200, fields)

    scene.provider.after = answer


async def test_the_base_for_later_requests_comes_with_the_token() -> None:
    scene = Scene(answer=AnswerPaths(endpoint_base="instance_url"))
    _answers(scene, instance_url="https://eu.example.com")
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=1000.0))
        before = await scene.token()
        after = await scene.token(force=True)

        assert isinstance(before, AccessToken)
        assert isinstance(after, AccessToken)
        assert (before.endpoint_base, after.endpoint_base) == (None, "https://eu.example.com")


@pytest.mark.parametrize(
    ("asked", "granted", "expected"),
    [
        ("read write", "read", "read"),
        ("read write", "write read", None),
        (None, "read", None),
        ("write", "r" * (SCOPE_CHARS_MAX + 1), None),
    ],
)
async def test_a_scope_that_is_less_than_was_asked_for_is_stored_and_shown(
    asked: str | None, granted: str, expected: str | None
) -> None:
    scene = Scene(scope=asked)
    _answers(scene, scope=granted)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        await scene.fresh()
        credentials = (await _shown(scene)).credentials

        assert credentials is not None
        assert credentials.scope == expected
        is_less = expected is not None or len(granted) > SCOPE_CHARS_MAX
        assert ("scope_narrowed" in credentials.notes) == is_less


@pytest.mark.parametrize(
    ("presented", "lives_s", "presents", "expected"),
    [
        (None, 1000.0, "refresh_token", ("no_refresh_token",)),
        ("r1", 1000.0, "refresh_token", ()),
        (None, None, "refresh_token", ()),
        (None, 1000.0, "access_token", ()),
    ],
)
async def test_a_connection_that_will_end_and_cannot_be_refreshed_is_told_from_the_start(
    presented: str | None, lives_s: float | None, presents: str, expected: tuple[str, ...]
) -> None:
    scene = Scene(presents=presents)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=lives_s, presented=presented))
        credentials = (await _shown(scene)).credentials

        assert credentials is not None
        assert credentials.notes == expected
