"""A link that is closed has no socket left, however nats-py's own closing goes."""

import pytest

from runtime.nats.link import Login, open_link


async def test_a_close_that_breaks_off_leaves_no_socket_open(
    nats_login: Login, monkeypatch: pytest.MonkeyPatch
):
    async def break_off(*_: object) -> None:
        raise OSError

    async with open_link(nats_login, name="test") as link:
        monkeypatch.setattr(link.client, "_flush_pending", break_off)
    writer = link.client._writer

    assert writer is not None
    assert writer.transport.is_closing()
