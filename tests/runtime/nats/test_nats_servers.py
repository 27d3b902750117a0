"""Several servers in one URL: whichever lets us in, and another when that one is gone."""

import signal
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest
from nats.aio.client import Srv

from runtime.nats.errors import CannotConnectError
from runtime.nats.link import LinkLimits, Login, NatsLink, open_link
from runtime.nats.server_pool import known_servers, others_first
from tests.fakes.daemon_process import ExternalNats, external_nats
from tests.fakes.eventually import eventually
from tests.fakes.nats_process import nats_process
from tests.fakes.tcp_proxy import ABANDONS_SOCKETS

pytestmark = ABANDONS_SOCKETS

EAGER = LinkLimits(reconnect_wait_s=0.02)
USER = {"authorization": {"user": "u", "password": "hunter2"}}


async def is_answered(link: NatsLink) -> bool:
    """Whether a message to ourselves comes back."""
    heard = await link.client.subscribe(link.client.new_inbox())
    link.publish_now(heard.subject, b"hello")
    return (await heard.next_msg(timeout=5)).data == b"hello"


def killed_first(link: NatsLink, one: ExternalNats, two: ExternalNats) -> ExternalNats:
    """Return the server that the link is connected to."""
    url = link.client.connected_url
    assert url is not None
    return one if url.port == one.port else two


async def test_when_one_server_is_lost_the_link_goes_on_with_another(tmp_path: Path):
    folders = [tmp_path / "1", tmp_path / "2"]
    for folder in folders:
        folder.mkdir()
    async with external_nats(folders[0]) as one, external_nats(folders[1]) as two:
        login = Login(url=f"{one.url},{two.url}")
        async with open_link(login, name="test", limits=EAGER) as link:
            for lost in range(2):
                gone = killed_first(link, one, two)
                await gone.stop(signal.SIGKILL)
                await eventually(
                    lambda lost=lost: link.is_connected and link.reconnects == lost + 1
                )
                assert await is_answered(link)
                await gone.start()

            assert link.url == f"{one.url},{two.url}"


async def test_a_server_that_is_down_keeps_nobody_from_the_other(tmp_path: Path):
    async with external_nats(tmp_path) as server:
        login = Login(url=f"nats://127.0.0.1:1,{server.url}")
        async with open_link(login, name="test", limits=EAGER) as link:
            assert await is_answered(link)


@pytest.mark.parametrize("urls", ["{u},{bare}", "{bare},{u}", "{u},{u}"])
async def test_one_user_lets_us_in_everywhere(tmp_path: Path, urls: str):
    """Both URLs are of the one server, under two names."""
    async with nats_process(tmp_path, USER) as server:
        port = server.login.url.rpartition(":")[2]
        url = urls.format(u=f"nats://u:hunter2@127.0.0.1:{port}", bare=f"nats://localhost:{port}")
        for _ in range(4):
            async with open_link(Login(url=url), name="test", limits=EAGER) as link:
                assert await is_answered(link)
                assert "hunter2" not in link.url


async def test_where_none_can_be_reached_all_are_named_without_a_password():
    limits = LinkLimits(connect_timeout_s=0.3, reconnect_wait_s=0.02)
    login = Login(url="nats://u:hunter2@127.0.0.1:1,nats://127.0.0.1:2")

    with anyio.fail_after(5), pytest.raises(CannotConnectError) as refused:
        async with open_link(login, name="test", limits=limits):
            pass

    assert "nats://127.0.0.1:1,nats://127.0.0.1:2" in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert "TimeoutError" not in str(refused.value)


def server(netloc: str, *, discovered: bool = False) -> Srv:
    return Srv(urlsplit(f"nats://{netloc}"), discovered=discovered)  # type: ignore[arg-type]


def test_a_server_that_others_tell_of_is_known_once_and_with_our_user():
    pool = [
        server("a:4222", discovered=True),
        server("u:pw@a:4222"),
        server("u:pw@b:4222"),
        server("c:4222", discovered=True),
        server("c:4222", discovered=True),
        server("gone:4222", discovered=True),
    ]

    known = known_servers(pool, ["a:4222", "c:4222"])

    assert [one.uri.netloc for one in known] == ["u:pw@a:4222", "u:pw@b:4222", "u:pw@c:4222"]


def test_the_server_that_was_just_lost_is_tried_last():
    lost, *others = pool = [server(f"n{number}:4222") for number in range(3)]

    tried = [others_first(pool, lost) for _ in range(20)]

    assert all(one[-1] is lost for one in tried)
    assert {one[0].uri.netloc for one in tried} == {one.uri.netloc for one in others}
