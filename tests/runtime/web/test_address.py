"""Where HTTP is served is said in full, and is loopback unless something else is."""

from pathlib import Path

import pytest

from runtime.config import load_config
from runtime.provider.secret_files import ConfigError
from runtime.web.address import Address, read_address


@pytest.mark.parametrize(
    ("text", "address", "is_loopback"),
    [
        ("127.0.0.1:9377", Address("127.0.0.1", 9377), True),
        ("localhost:0", Address("localhost", 0), True),
        ("[::1]:9377", Address("::1", 9377), True),
        ("0.0.0.0:80", Address("0.0.0.0", 80), False),  # noqa: S104
        ("[::]:80", Address("::", 80), False),
        ("refreshd.internal:80", Address("refreshd.internal", 80), False),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: Address, is_loopback: bool) -> None:
    read = read_address(text)

    assert read == address
    assert str(read) == text
    assert address.is_loopback is is_loopback


@pytest.mark.parametrize("text", ["9377", ":9377", "127.0.0.1", "::1:9377", "a b:1", "h:99999999"])
def test_what_is_no_address_is_refused_by_its_path(text: str, tmp_path: Path) -> None:
    file = tmp_path / "refreshd.toml"
    file.write_text(f'[http]\nlisten = "{text}"\n')

    with pytest.raises(ConfigError, match=r"http\.listen"):
        load_config(file, environment={})


def test_a_port_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="65536 is over 65535"):
        read_address("127.0.0.1:65536")


@pytest.mark.parametrize("text", ["", "127.0.0.1:0"])
def test_it_is_set_and_switched_off_by_the_environment(text: str) -> None:
    assert load_config(None, environment={}).http.listen is None
    assert load_config(None, environment={"REFRESHD_HTTP_LISTEN": text}).http.listen == text
