"""TLS to NATS: our authority, our certificate, and not a word to a server that speaks none."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from runtime.config import load_config
from runtime.nats.errors import CannotConnectError
from runtime.nats.link import LinkLimits, Login, NatsLink, open_link
from runtime.provider.secret_files import ConfigError
from tests.fakes.certificates import Authority, Pair
from tests.fakes.eventually import eventually
from tests.fakes.nats_process import nats_process
from tests.fakes.tcp_proxy import ABANDONS_SOCKETS

pytestmark = [
    ABANDONS_SOCKETS,
    # What it leaves where a handshake fails.
    pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning"),
]

SOON = LinkLimits(connect_timeout_s=0.5, reconnect_wait_s=0.05)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def login(tmp_path: Path, authority: Authority) -> AsyncGenerator[Login]:
    """How to reach a server that asks for a certificate, and takes it for who we are."""
    pair = authority.issue("server")
    tls: dict[str, Any] = {
        "cert_file": str(pair.cert),
        "key_file": str(pair.key),
        "ca_file": str(authority.cert),
        "verify_and_map": True,
    }
    users = [{"user": "localhost"}]
    async with nats_process(tmp_path, {"tls": tls, "authorization": {"users": users}}) as server:
        yield server.login


def with_files(login: Login, authority: Authority, pair: Pair) -> Login:
    return replace(login, ca_file=authority.cert, cert_file=pair.cert, key_file=pair.key)


async def is_answered(link: NatsLink) -> bool:
    """Whether a message to ourselves comes back."""
    heard = await link.client.subscribe(link.client.new_inbox())
    link.publish_now(heard.subject, b"hello")
    return (await heard.next_msg(timeout=5)).data == b"hello"


@pytest.mark.parametrize("scheme", ["nats", "tls"])
async def test_our_certificate_lets_us_in_where_our_authority_has_signed_the_server_s(
    login: Login, authority: Authority, scheme: str
):
    known = with_files(login, authority, authority.issue("daemon"))
    url = f"{scheme}://{login.url.rpartition('/')[2]}"

    async with open_link(replace(known, url=url), name="test") as link:
        assert await is_answered(link)


async def test_certificate_and_key_may_be_in_one_file(
    login: Login, authority: Authority, tmp_path: Path
):
    pair = authority.issue("daemon")
    both = tmp_path / "both.pem"
    both.write_bytes(pair.cert.read_bytes() + pair.key.read_bytes())

    known = replace(login, ca_file=authority.cert, cert_file=both)
    async with open_link(known, name="test") as link:
        assert await is_answered(link)


async def test_without_our_certificate_the_server_refuses_us(login: Login, authority: Authority):
    with pytest.raises(CannotConnectError):
        async with open_link(replace(login, ca_file=authority.cert), name="test", limits=SOON):
            pass


async def test_a_server_that_another_authority_has_signed_is_refused(
    login: Login, authority: Authority, tmp_path: Path
):
    (tmp_path / "other").mkdir()
    known = with_files(login, authority, authority.issue("daemon"))
    other = replace(known, ca_file=Authority(tmp_path / "other").cert)

    with pytest.raises(CannotConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        async with open_link(other, name="test", limits=SOON):
            pass


@pytest.mark.parametrize("scheme", ["nats", "tls"])
async def test_a_server_that_speaks_no_tls_is_told_nothing(authority: Authority, scheme: str):
    """nats-py would go on without, and send the password."""
    heard: list[bytes] = []

    open_now: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        writer.write(b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576}\r\n')
        heard.append(await reader.read())
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        open_now.remove(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    login = Login(
        url=f"{scheme}://127.0.0.1:{port}",
        user="u",
        password="hunter2",
        ca_file=authority.cert if scheme == "nats" else None,
    )
    async with server:
        with pytest.raises(CannotConnectError, match="does not speak TLS"):
            async with open_link(login, name="test", limits=SOON):
                pass
        await eventually(lambda: not open_now)

    assert heard
    assert b"".join(heard) == b""


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("ca_file", "not PEM"),
        ("cert_file", "not PEM"),
        ("key_file", "not PEM"),
        ("missing", "No such file"),
        ("encrypted", "nats.key_file: the key is encrypted"),
        ("another's", "do not belong together"),
        ("alone", "set nats.cert_file"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_told_at_the_start(
    authority: Authority, tmp_path: Path, key: str, told: str
):
    pair, other = authority.issue("daemon"), authority.issue("other")
    noise = tmp_path / "noise"
    noise.write_text("secret-noise")
    noise.chmod(0o600)
    files = {"ca_file": authority.cert, "cert_file": pair.cert, "key_file": pair.key}
    match key:
        case "missing":
            files["cert_file"] = tmp_path / "absent"
        case "encrypted":
            files["key_file"] = authority.issue("locked", passphrase="hunter2").key
            files["cert_file"] = tmp_path / "locked.pem"
        case "another's":
            files["key_file"] = other.key
        case "alone":
            del files["cert_file"]
        case _:
            files[key] = noise
    environment = {f"REFRESHD_NATS_{name.upper()}": str(file) for name, file in files.items()}

    with pytest.raises(ConfigError) as refused:
        load_config(None, environment=environment, nats_url="tls://127.0.0.1:1").login()

    assert str(refused.value).startswith("nats.")
    assert told in str(refused.value)
    assert "secret-noise" not in str(refused.value)
