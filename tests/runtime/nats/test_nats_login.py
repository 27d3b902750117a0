"""A login shows where it leads, and nothing that lets anybody in."""

import pytest

from runtime.nats.login import Login

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
        ("nats://a:hunter2@h1,nats://b:hunter2@h2", HIDDEN),
    ],
)
def test_an_address_never_shows_what_stands_before_the_host(url: str, address: str):
    shown = Login(url=url).address

    assert "hun" not in shown
    assert "er2" not in shown
    assert shown == address
