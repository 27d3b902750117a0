"""Answers go to inboxes, or where the configuration says, and never where they could do harm."""

import pytest
import structlog
from nats.aio.msg import Msg

from runtime.nats.client import Arrived
from runtime.nats.link import Login, NatsLink, open_link
from runtime.nats.reply_subjects import ReplySubjects
from tests.fakes.clients import proxied_link
from tests.fakes.eventually import eventually
from tests.fakes.tcp_proxy import ABANDONS_SOCKETS

pytestmark = ABANDONS_SOCKETS

INBOXES = ("_INBOX.x.1", "_INBOX_app.x.1", "_INBOX_tokens.x", "_R_.AbCdEf.12")
ELSEWHERE = ("jobs.delete", "orders", "_inbox.x", "INBOX.x", "x._INBOX.y", "*", ">", "_", "_INBOX")
NEVER = ("$KV.b.key", "$JS.API.STREAM.DELETE.S", "$SRV.PING", "refreshd.v1.connect")


@pytest.fixture
def replies() -> ReplySubjects:
    subjects = ReplySubjects()
    subjects.forbid("refreshd.v1.", "_INBOX_refreshd.")
    return subjects


@pytest.mark.parametrize("reply", INBOXES)
def test_an_inbox_is_answered(replies: ReplySubjects, reply: str):
    assert replies.allow(reply.encode())
    assert replies.refused == 0


@pytest.mark.parametrize("reply", [*ELSEWHERE, *NEVER, "_INBOX_refreshd.x.1"])
def test_nothing_else_is_answered_and_each_is_counted(replies: ReplySubjects, reply: str):
    assert not replies.allow(reply.encode())
    assert replies.refused == 1


async def test_a_reply_subject_longer_than_the_server_takes_ends_no_connection(nats_login: Login):
    async with proxied_link(nats_login) as (proxy, link):

        def answer(request: Arrived) -> None:
            if request.reply:
                link.publish_now(request.reply, b"answer")

        await link.client.take_all("asked", answer)
        await link.flush()

        # As it comes from another server, whose lines may be longer.
        await proxy.inject(b"MSG asked %d _INBOX.%b 0\r\n\r\n" % (link.client._sid, b"x" * 5000))
        await eventually(lambda: link.client.stats["in_msgs"] == 1)

        await link.flush()
        assert link.replies.refused == 1


@pytest.mark.parametrize("reply", [*NEVER, "_INBOX_refreshd.x.1"])
def test_what_must_never_be_answered_cannot_be_allowed(reply: str):
    subjects = ReplySubjects(("$KV.", "$", "refreshd", "_INBOX_refreshd"))
    subjects.forbid("refreshd.v1.", "_INBOX_refreshd.")

    assert not subjects.allow(reply.encode())


def test_other_prefixes_take_the_place_of_inboxes():
    subjects = ReplySubjects(("answers.",))

    assert subjects.allow(b"answers.1")
    assert not subjects.allow(b"_INBOX.1")


def test_many_refusals_are_one_line_that_quotes_none(replies: ReplySubjects):
    with structlog.testing.capture_logs() as logged:
        for number in range(1000):
            replies.allow(b"secret-%d" % number)

    assert replies.refused == 1000
    assert [line["event"] for line in logged] == ["reply_subject_refused"]
    assert "service.reply_prefixes" in logged[0]["remedy"]
    assert "secret" not in str(logged)


async def test_a_request_that_aims_elsewhere_is_served_and_answered_nowhere(
    nats_login: Login, link: NatsLink
):
    async with open_link(nats_login, name="caller") as caller:
        served: list[str] = []
        heard: list[bytes] = []

        async def serve(message: Msg) -> None:
            served.append(message.reply)
            if message.reply:
                await message.respond(message.data)

        async def hear(message: Msg) -> None:
            heard.append(message.data)

        await link.client.subscribe("work", cb=serve)
        await caller.client.subscribe("jobs.>", cb=hear)
        await link.flush()

        caller.publish_now("work", b"aimed", reply="jobs.delete")
        answer = await caller.request("work", b"asked", timeout_s=5.0)
        await link.flush()
        await caller.flush()

    assert answer.data == b"asked"
    assert served[0] == ""
    assert heard == []
    assert link.replies.refused == 1
