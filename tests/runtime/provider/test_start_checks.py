"""What could never work is told when the daemon starts, with its path and its mend."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc import jwk

from runtime.config import load_config
from runtime.provider.profiles import ProfileError, load_profiles
from runtime.provider.secret_files import ConfigError

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256, P384 = (ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1()))
PASSWORD = BestAvailableEncryption(b"hush")

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def private(
    key: Key,
    form: PrivateFormat = PrivateFormat.PKCS8,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


def public(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk_of(key: Key, *, is_private: bool) -> bytes:
    known = jwk.import_key(private(key), "EC" if isinstance(key, type(P256)) else "RSA")
    return msgspec.json.encode(known.as_dict(private=is_private))


def refusal(**section: Any) -> str | None:
    fields = {"token_endpoint": "https://b.example/t", "client_id": "me", "client_auth": "none"}
    try:
        load_profiles({"bank": fields | section})
    except ProfileError as error:
        return str(error)
    return None


def refusal_of_key(folder: Path, key: bytes, algorithm: str) -> str | None:
    file = folder / "key.pem"
    file.write_bytes(key)
    told = refusal(
        client_auth="private_key_jwt", private_key_file=str(file), assertion_algorithm=algorithm
    )
    assert told is None or told.startswith(f"providers.bank.private_key_file: {file}: ")
    return told


@pytest.mark.parametrize(
    ("key", "algorithm", "said"),
    [
        (private(RSA, encryption=PASSWORD), "RS256", "encrypted: give it without a password"),
        (private(RSA, PrivateFormat.TraditionalOpenSSL, PASSWORD), "RS256", "encrypted"),
        (private(P256, encryption=PASSWORD), "ES256", "encrypted"),
        (public(RSA), "PS256", "the private one is needed"),
        (public(P256), "ES256", "the private one is needed"),
        (jwk_of(RSA, is_private=False), "RS256", "the private one is needed"),
        (private(P256), "RS256", "of type EC, but assertion_algorithm is RS256"),
        (private(RSA), "ES256", "of type RSA, but assertion_algorithm is ES256"),
        (private(P384), "ES256", "cannot sign with ES256"),
        (b"hush", "RS256", "no private key"),
        (b'{"kty": "hush"}', "ES256", "no private key"),
        (private(ed25519.Ed25519PrivateKey.generate()), "RS256", "no private key"),
    ],
)
def test_a_key_that_cannot_sign_is_refused_with_its_file(
    tmp_path: Path, key: bytes, algorithm: str, said: str
):
    told = refusal_of_key(tmp_path, key, algorithm)

    assert told is not None
    assert said in told
    assert "hush" not in told


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (private(RSA), "PS512"),
        (private(RSA, PrivateFormat.TraditionalOpenSSL), "RS256"),
        (private(P256, PrivateFormat.TraditionalOpenSSL), "ES256"),
        (private(P384), "ES384"),
        (jwk_of(RSA, is_private=True), "RS384"),
        (jwk_of(P256, is_private=True), "ES256"),
    ],
)
def test_a_key_that_can_sign_is_taken(tmp_path: Path, key: bytes, algorithm: str):
    assert refusal_of_key(tmp_path, key, algorithm) is None


@pytest.mark.parametrize(
    ("endpoint", "hosts"),
    [
        ("https://{shop}.myshopify.com/t", ["*.example.com"]),
        ("https://{shop}.myshopify.com/t", ["myshopify.com", "api.shopify.com"]),
        ("https://api.{region}.example.com/t", ["*.example.org", "eu.example.com"]),
        ("https://{a}-x.{b}/t", ["one.example"]),
    ],
)
def test_a_host_that_can_never_be_allowed_is_told(endpoint: str, hosts: list[str]):
    told = refusal(token_endpoint=endpoint, allowed_hosts=hosts)

    assert told is not None
    assert told.startswith("providers.bank.token_endpoint: ")
    assert ", ".join(hosts) in told
    assert "mend providers.bank.allowed_hosts" in told


@pytest.mark.parametrize(
    ("endpoint", "hosts"),
    [
        ("https://{shop}.myshopify.com/t", ["*.example.com", "*.myshopify.com"]),
        ("https://{shop}.myshopify.com/t", ["one.myshopify.com"]),
        ("https://{tenant}/t", ["*.example.com"]),
        ("https://api.{region}.com/t", ["*.example.com"]),
        ("https://{host}.com:8443/t", ["*.example.com"]),
        ("{endpoint_base}/t", ["*.example.com"]),
        ("https://b.example/{tenant}/t", ["elsewhere.example"]),
    ],
)
def test_a_host_that_some_value_leads_to_is_taken(endpoint: str, hosts: list[str]):
    assert refusal(token_endpoint=endpoint, allowed_hosts=hosts) is None


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            {"client_auth": "basic"},
            "client_auth: expected client_secret_basic, client_secret_post, private_key_jwt, none",
        ),
        ({"body_format": "xml"}, "body_format: expected form, json, query"),
        ({"method": "PUT"}, "method: expected POST, GET"),
        (
            {"error_map": [{"code": "x", "verdict": "dead"}]},
            "error_map[0].verdict: expected transient, operator, user, ambiguous",
        ),
    ],
)
def test_an_invalid_choice_of_a_provider_lists_the_choices(section: dict[str, Any], said: str):
    assert refusal(**section) == f"providers.bank.{said}"


def test_an_invalid_choice_elsewhere_lists_the_choices(tmp_path: Path):
    file = tmp_path / "refreshd.toml"
    file.write_text('[log]\nlevel = "loud"\n')

    with pytest.raises(ConfigError) as in_file:
        load_config(file, environment={})
    with pytest.raises(ConfigError) as in_environment:
        load_config(None, environment={"REFRESHD_LOG_FORMAT": "xml"})

    assert "expected debug, error, info, warning - at `$.log.level`" in str(in_file.value)
    assert "REFRESHD_LOG_FORMAT: expected auto, json, text" in str(in_environment.value)
