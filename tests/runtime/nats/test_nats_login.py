"""A login shows where it leads, and nothing that lets anybody in."""

from pathlib import Path

import pytest

from runtime.config import load_config
from runtime.nats.login import Login, LoginError
from runtime.provider.secret_files import ConfigError

HIDDEN = "an address that is not shown"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ("nats://bob:hunter2@127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ("bob:hunter2@127.0.0.1:4222", "127.0.0.1:4222"),
        ("tls://hunter2@example.com", "tls://example.com"),
        ("nats://bob:hun@ter2@example.com:1", "nats://example.com:1"),
        ("nats://example.com?token=hunter2", "nats://example.com"),
        ("bob:hunter2://x@example.com", HIDDEN),
        ("hunter2@", ""),
        ("nats://example.com:4222/?hunter2", "nats://example.com:4222"),
        ("nats://example.com/hunter2", "nats://example.com"),
        ("nats://example.com#hunter2", "nats://example.com"),
        ("example.com?token=hunter2://x", "example.com"),
        ("http://bob:hunter2@example.com", HIDDEN),
        ("wss://bob:hunter2@[::1]:443/x", "wss://[::1]:443"),
        ("nats://example.com?token=hunt@er2", HIDDEN),
        ("nats://bob:hun/ter2@example.com:1", HIDDEN),
        ("nats://bob:hun?ter2@example.com:1", HIDDEN),
        ("nats://bob:hun#ter2@example.com:1", HIDDEN),
        ("nats://a:hunter2@h1,nats://b:hunter2@h2", "nats://h1,nats://h2"),
        ("nats://a:hunter2@h1, tls://h2:1/hunter2", "nats://h1,tls://h2:1"),
        ("nats://a:hun,ter2@h1:1", "nats://h1:1"),
        ("nats://a:hun,ter2@h1,nats://b:hun/ter2@h2", f"nats://h1,{HIDDEN}"),
        ("h1,h2:1,h3", "h1,h2:1,h3"),
    ],
)
def test_an_address_never_shows_what_stands_before_the_host(url: str, address: str):
    shown = Login(url=url).address

    assert "hun" not in shown
    assert "er2" not in shown
    assert shown == address


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("nats://h:1", ["nats://h:1"]),
        ("h", ["h"]),
        ("nats://h1:1,nats://h2:2", ["nats://h1:1", "nats://h2:2"]),
        ("h1:1, tls://h2", ["nats://h1:1", "tls://h2"]),
        ("nats://u:p@h1,nats://v:q@h2", ["nats://u:p@h1", "nats://v:q@h2"]),
        (
            "nats://h1,nats://u:p@h2,nats://v:q@h3",
            ["nats://u:p@h1", "nats://u:p@h2", "nats://v:q@h3"],
        ),
        ("nats://token@h1,nats://h2", ["nats://token@h1", "nats://token@h2"]),
        ("nats://u:p,q@h1:1", ["nats://u:p,q@h1:1"]),
        ("nats://[::1]:1,nats://[::2]:2", ["nats://[::1]:1", "nats://[::2]:2"]),
    ],
)
def test_each_server_has_a_url_and_a_user_of_its_own_or_the_first_one_s(
    url: str, servers: list[str]
):
    assert Login(url=url).servers == servers


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nats://h1:1,nats://h2:x,h3", "server 2 of 3, 'nats://h2:x',"),
        ("h1,", "server 2 of 2, '',"),
        ("h1,,h3", "server 2 of 3, '',"),
        ("nats://h1,nats://", "server 2 of 2, 'nats://',"),
        ("nats://h1:99999,h2", "server 1 of 2, 'nats://h1:99999',"),
        ("h1,h 2", "server 2 of 2, 'h 2',"),
        ("nats://u:hunter2@h1:x,nats://h2", "server 1 of 2, 'nats://h1:x',"),
        ("nats://u:hunter2@h1:1,h2:2,nats://h3", "server 1 of 2, 'nats://h1:1,h2:2',"),
        ("nats://u:hun/ter2@h1:1,nats://h2", "server 1 of 2, 'an address that is not shown',"),
        ("nats://h1,wss://h2", "either all servers are ws:// or wss://, or none is"),
    ],
)
def test_a_server_that_is_none_is_named_without_its_password(url: str, told: str):
    with pytest.raises(LoginError) as error:
        _ = Login(url=url).servers
    with pytest.raises(ConfigError) as refused:
        load_config(None, environment={}, nats_url=url).login()

    assert str(error.value).startswith("nats.url: ")
    assert told in str(error.value)
    assert "hun" not in str(error.value)
    assert str(refused.value) == str(error.value)


@pytest.mark.parametrize(
    ("login", "wants_tls"),
    [
        (Login(url="nats://h"), False),
        (Login(url="h1,h2"), False),
        (Login(url="tls://h"), True),
        (Login(url="nats://h1,tls://h2"), True),
        (Login(url="nats://h", ca_file=Path("ca.pem")), True),
        (Login(url="nats://h", cert_file=Path("cert.pem")), True),
    ],
)
def test_whoever_names_a_certificate_or_tls_wants_tls(login: Login, wants_tls: bool):
    assert login.wants_tls is wants_tls
