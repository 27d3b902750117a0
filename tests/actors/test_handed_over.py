"""A partition that is handed over: nobody waits for a provider, and what it answers is kept."""

import anyio

from actors.directory import LOST
from actors.world import MOVED
from domain.commands import Get, GetToken
from tests.fakes.commands import refresh
from tests.fakes.holds import HeldAppends
from tests.fakes.token_scene import ID, Scene


async def test_a_request_whose_intent_is_being_stored_goes_out_and_its_outcome_is_kept() -> None:
    scene = Scene()
    directory = scene.stage.directory
    async with scene.stage.opened() as tasks:
        await scene.stage.ask(scene.connect())
        scene.provider.takes_s = 20.0
        held = HeldAppends(scene.stage.ledger)
        asked = scene.stage.send(GetToken(connection_id=ID))
        await anyio.sleep(0.1)
        tasks.start_soon(directory.empty, 0)
        await anyio.sleep(0.1)
        held.end()
        await anyio.sleep(0.1)
        directory.dismiss(0)
        await anyio.sleep(60.0)

    assert asked.reply is MOVED
    assert scene.provider.presented == ["r1"]
    (outcome,) = scene.stage.spill.kept
    assert outcome.connection.generation == 2


async def test_what_a_lost_partition_had_under_way_goes_on_elsewhere_if_it_may_be_repeated() -> (
    None
):
    scene = Scene()
    directory, stage = scene.stage.directory, scene.stage
    async with stage.opened():
        await stage.ask(scene.connect())
        held = HeldAppends(stage.ledger)
        once = stage.send(refresh(ID))
        named = stage.send(refresh(ID), message_id=b"a message")
        read = stage.send(Get(connection_id=ID))
        await anyio.sleep(0.1)
        stage.ledger.is_lost = True
        held.end()
        await anyio.sleep(0.1)

        assert once.reply is LOST
        assert named.reply is MOVED
        assert read.reply is MOVED
        assert directory.partitions == {}
