"""What comes in for a link is the link's alone: nobody else reads it or sends it there."""

from pathlib import Path

import msgspec
import pytest
from nats.aio.msg import Msg

from runtime.nats.errors import CannotConnectError
from runtime.nats.jetstream_api import create_stream
from runtime.nats.link import PLAIN_INBOX, LinkLimits, Login, NatsLink, open_link
from runtime.nats.stream_reader import read_stream

OWN = "_INBOX_refreshd"


async def echo(link: NatsLink) -> None:
    """Answer requests on ``echo`` with their own bytes."""

    async def answer(message: Msg) -> None:
        if message.reply:
            await message.respond(message.data)

    await link.client.subscribe("echo", cb=answer)
    await link.flush()


async def overheard_at(listener: NatsLink, subject: str) -> list[bytes]:
    """Return what will be heard on ``subject``."""
    heard: list[bytes] = []

    async def hear(message: Msg) -> None:
        heard.append(message.data)

    await listener.client.subscribe(subject, cb=hear)
    await listener.flush()
    return heard


async def stored_by(link: NatsLink) -> list[bytes]:
    """Store two messages, and read them back through a consumer."""
    await create_stream(link, {"name": "S", "subjects": ["s.*"], "storage": "file"})
    for number in (b"1", b"2"):
        await link.request(f"s.{number.decode()}", number, timeout_s=5.0)
    return [message.data async for message in read_stream(link, "S")]


@pytest.mark.parametrize(("prefix", "is_heard"), [(PLAIN_INBOX, True), (OWN, False)])
async def test_who_may_read_the_common_inboxes_hears_nothing_from_one_of_its_own(
    nats_login: Login, link: NatsLink, prefix: str, is_heard: bool
):
    await echo(link)
    heard = await overheard_at(link, "_INBOX.>")

    async with open_link(nats_login, name="test", inbox_prefix=prefix) as own:
        await own.request("echo", b"secret", timeout_s=5.0)
        stored = await stored_by(own)
    await link.flush()

    assert stored == [b"1", b"2"]
    assert ({b"secret", b"1", b"2"} <= set(heard)) is is_heard
    assert bool(heard) is is_heard


async def test_nobody_makes_a_link_answer_itself(nats_login: Login, link: NatsLink):
    async with open_link(nats_login, name="test", inbox_prefix=OWN) as own:
        heard = await overheard_at(link, f"{OWN}.>")
        await echo(own)

        link.publish_now("echo", b"forged", reply=f"{own.inbox}.1")
        answer = await link.request("echo", b"mine", timeout_s=5.0)
        await own.flush()
        await link.flush()

    assert answer.data == b"mine"
    assert own.replies.refused == 1
    assert b"forged" not in heard


async def test_an_inbox_is_another_each_time_and_cannot_be_guessed_from_the_last(link: NatsLink):
    inboxes = [link.client.new_inbox().rpartition(".")[2] for _ in range(100)]

    assert len({inbox[:10] for inbox in inboxes}) == 100
    assert {len(inbox) for inbox in inboxes} == {32}


async def test_who_has_seen_a_request_cannot_guess_where_the_next_answer_comes_in(link: NatsLink):
    seen: list[str] = []

    async def answer(message: Msg) -> None:
        seen.append(message.reply.rpartition(".")[2])
        await message.respond(b"")

    await link.client.subscribe("asked", cb=answer)
    for _ in range(20):
        await link.request("asked", b"", timeout_s=5.0)

    assert len({token[:8] for token in seen}) == 20


@pytest.mark.parametrize("seed", ["SUSECRETSEED", "SU\u00e9", ""])
async def test_a_key_that_is_none_is_told_and_not_shown(
    nats_login: Login, tmp_path: Path, seed: str
):
    file = tmp_path / "seed"
    file.write_text(seed)
    limits = LinkLimits(connect_timeout_s=0.5)

    with pytest.raises(CannotConnectError) as refused:
        async with open_link(
            msgspec.structs.replace(nats_login, nkey_seed_file=file), name="test", limits=limits
        ):
            pass

    assert nats_login.address in str(refused.value)
    assert not seed or seed not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "nats://bob:hunter2#x@127.0.0.1:1",
        "nats://bob:hunter2/x@127.0.0.1:1",
        "bob:hunter2/x@127.0.0.1:1",
        "nats://bob:hunter2[x@127.0.0.1:1",
    ],
)
async def test_a_url_that_is_none_is_told_without_its_password(url: str):
    with pytest.raises(CannotConnectError) as refused:
        async with open_link(Login(url=url), name="test", limits=LinkLimits(connect_timeout_s=0.5)):
            pass

    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in repr(refused.value.__cause__)
