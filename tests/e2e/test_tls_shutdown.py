"""A daemon whose NATS has TLS says nothing but lines of JSON, to its very end."""

import json
from pathlib import Path

from tests.fakes.daemon_process import daemon_process
from tests.fakes.nats_process import nats_process
from tests.fakes.raw_http import certificate


async def test_each_line_at_the_end_of_a_tls_connection_is_json(tmp_path: Path):
    certificate(tmp_path)
    pem = str(tmp_path / "server.pem")
    settings = {
        "tls": {"cert_file": pem, "key_file": pem},
        "jetstream": {"store_dir": str(tmp_path), "sync_interval": "always"},
    }
    async with nats_process(tmp_path, settings) as server:
        url = server.login.url.replace("nats://", "tls://")
        where = ("--nats", url)
        trust = {"SSL_CERT_FILE": pem}
        async with daemon_process(tmp_path / "data", *where, environment=trust) as daemon:
            assert await daemon.stop() == 0

    said = [line for line in daemon.said if not line.startswith("ready ")]
    assert [json.loads(line)["event"] for line in said][-2:] == ["draining", "stopped"]
