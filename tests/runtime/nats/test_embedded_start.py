"""The embedded server may take long to restore its streams, and is waited for while it lives."""

from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from runtime.nats import embedded
from runtime.nats.embedded import EmbeddedNats, EmbeddedNatsError

pytestmark = pytest.mark.anyio


def _never_listening(folder: Path) -> Path:
    program = folder / "nats-server"
    program.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo nats-server: v2.15.1 || exec sleep 60\n'
    )
    program.chmod(0o700)
    return program


async def test_a_server_that_does_not_listen_in_time_is_ended_and_the_setting_named(tmp_path: Path):
    program = _never_listening(tmp_path)
    server = EmbeddedNats(tmp_path, server_bin=program, port=None, start_timeout_s=0.2)

    with anyio.fail_after(10), pytest.raises(EmbeddedNatsError, match=r"nats\.start_timeout_s"):
        await server.start()

    assert not server.is_running


async def test_while_a_server_restores_its_streams_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(embedded, "_TOLD_S", 0.05)
    program = _never_listening(tmp_path)
    server = EmbeddedNats(tmp_path, server_bin=program, port=None, start_timeout_s=0.5)

    with capture_logs() as logs, pytest.raises(EmbeddedNatsError):
        await server.start()

    assert "embedded_nats_restoring" in [line["event"] for line in logs]
