"""What a failure of a refresh comes to, by what is known of its grant."""

from uuid import UUID

import anyio
import pytest

from actors.entry import Entry
from domain.connection import ConnectionStatus, Trouble
from domain.credentials import Secret
from domain.exchange import Answered, Exchange, Lost, NotSent
from domain.profile import FailureClass
from domain.result import FailureCode
from tests.fakes.commands import connect, refresh
from tests.fakes.stage import Stage
from tests.fakes.token_scene import HASTY_S, ID, Scene


def _page(scene: Scene) -> Exchange:
    """Return a page, as a proxy writes it."""
    return Answered(
        status=403,
        body=Secret(b"<html>"),
        content_type="text/html",
        sent_at=scene.clock.now(),
    )


async def _troubles(scene: Scene, times: int) -> list[Trouble]:
    """Ask as soon as is allowed, so many times, and return what was stored each time."""
    troubles: list[Trouble] = []
    for _ in range(times):
        await scene.token(HASTY_S, force=True)
        trouble = scene.stage.stored(ID).trouble
        assert trouble is not None
        troubles.append(trouble)
        assert trouble.retry_at is not None
        await anyio.sleep((trouble.retry_at - scene.clock.now()).total_seconds() + 0.1)
    return troubles


@pytest.mark.parametrize(("lives_s", "escalates"), [(-1.0, True), (1e6, False), (None, False)])
async def test_pages_become_a_verdict_at_their_number_and_only_for_a_token_that_has_ended(
    lives_s: float | None, escalates: bool
) -> None:
    scene = Scene(ambiguous_max=3)
    scene.provider.before = lambda _: _page(scene)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=lives_s))
        troubles = await _troubles(scene, 3)

    kinds = [one.failure_class is FailureClass.AMBIGUOUS for one in troubles]
    assert kinds == [True, True, not escalates]
    assert [one.ambiguous for one in troubles][:2] == [1, 2]


@pytest.mark.parametrize("most", [1, 2])
async def test_as_many_ambiguous_answers_are_a_verdict_as_the_profile_says(most: int) -> None:
    scene = Scene(ambiguous_max=most)
    scene.provider.before = lambda _: _page(scene)
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        troubles = await _troubles(scene, most)

    kinds = [one.failure_class is FailureClass.AMBIGUOUS for one in troubles]
    assert kinds == [True] * (most - 1) + [False]


async def test_the_token_of_a_grant_that_has_ended_is_not_served_though_it_lives() -> None:
    scene = Scene()
    scene.provider.live = "another"
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect(lives_s=1000.0))
        refused = await scene.refused(force=True)

    assert refused.code is FailureCode.REAUTH_REQUIRED


async def test_a_grant_ends_for_a_lost_answer_only_where_one_was_lost() -> None:
    for is_lost in (False, True):
        scene = Scene()
        async with scene.stage.opened():
            await scene.stage.ask(scene.connect())
            if is_lost:
                scene.provider.after = lambda _: Lost(code="timeout")
                await scene.token()
                scene.provider.after = None
                await anyio.sleep(3600.0)
            else:
                scene.provider.live = "another"
            refused = await scene.refused()

        assert refused.code is FailureCode.REAUTH_REQUIRED
        assert ("was lost on the way" in refused.message) == is_lost


async def test_a_successor_that_cannot_be_read_leaves_the_token_in_doubt_since_it_was_presented() -> (
    None
):
    scene = Scene()
    scene.provider.before = lambda _: scene.provider.answered(
        200, {"access_token": "a2", "refresh_token": ["r2"], "expires_in": 3600}
    )
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        asked_at = scene.clock.now()
        assert await scene.fresh() == "a2"
        stored = scene.stage.stored(ID)

    assert stored.doubted_at == asked_at
    assert stored.credentials is not None
    assert stored.credentials.expires_at is not None
    assert stored.credentials.issued_at is not None
    assert stored.credentials.client_id == "me"


async def test_an_entry_says_what_the_connection_was_before_all_that_it_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage()
    added: list[tuple[UUID, ConnectionStatus | None]] = []
    add = stage.ledger.add

    def noted(entry: Entry) -> bool:
        added.append((entry.connection_id, entry.before and entry.before.status))
        return add(entry)

    monkeypatch.setattr(stage.ledger, "add", noted)
    async with stage.opened():
        await stage.ask(connect(ID, pending=True))
        sent = [stage.send(connect(ID)), stage.send(refresh(ID))]
        await stage.settled()

    assert [one.code for one in sent] == [None, None]
    assert added == [(ID, None), (ID, ConnectionStatus.PENDING)]


@pytest.mark.parametrize(
    ("exchange", "unknown"),
    [(Lost(code="timeout"), {"schwab": 1}), (NotSent(code="connect_failed"), {})],
)
async def test_a_failure_after_which_the_token_may_be_spent_is_counted(
    exchange: Exchange, unknown: dict[str, int]
) -> None:
    scene = Scene()
    scene.provider.before = lambda _: exchange
    async with scene.stage.opened():
        await scene.stage.ask(scene.connect())
        await scene.token(HASTY_S, force=True)

    assert scene.stage.journal.unknown == unknown
