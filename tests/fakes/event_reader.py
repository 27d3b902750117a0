"""Reads the event stream message by message, as anybody with NATS could."""

from uuid import UUID

import msgspec

from runtime.nats.link import NatsLink


async def stored_event_ids(link: NatsLink, connection_id: UUID, *, prefix: str) -> list[UUID]:
    """Return the ids of a connection's events in the order of the stream."""
    found: list[UUID] = []
    seq = 1
    while True:
        query = {"seq": seq, "next_by_subj": f"{prefix}.event.*.{connection_id}.>"}
        answer = await link.request(
            "$JS.API.STREAM.MSG.GET.REFRESHD_EVENTS", msgspec.json.encode(query), timeout_s=5.0
        )
        message = msgspec.json.decode(answer.data).get("message")
        if message is None:
            return found
        seq = message["seq"] + 1
        body = msgspec.json.decode(msgspec.convert(message["data"], bytes))
        assert body["subject"] == str(connection_id)
        found.append(UUID(body["id"]))
