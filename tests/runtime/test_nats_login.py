"""A login shows where it leads, and nothing that lets anybody in."""

import pytest

from runtime.nats_login import Login


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ("nats://bob:hunter2@127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ("bob:hunter2@127.0.0.1:4222", "127.0.0.1:4222"),
        ("tls://hunter2@example.com", "tls://example.com"),
        ("nats://bob:hun@ter2@example.com:1", "nats://example.com:1"),
        ("nats://example.com?token=hunter2", "nats://example.com"),
        ("bob:hunter2://x@example.com", "example.com"),
    ],
)
def test_an_address_never_shows_what_stands_before_the_host(url: str, address: str):
    shown = Login(url=url).address

    assert "hun" not in shown
    assert shown == address
