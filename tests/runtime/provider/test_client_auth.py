"""The client proves itself as its profile says; what the configuration lacks is told by a code."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc import jwk, jwt

from domain.credentials import Secret
from domain.exchange import Misconfigured
from domain.profile import BasicEncoding, ClientAuth, ProviderProfile
from runtime.provider.client_auth import ClientAuthenticator, ClientProof, ProviderSecrets

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
ENDPOINT = "https://provider.example/token"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def prove(
    *,
    secrets: tuple[bytes, ...] = (),
    key: bytes | None = None,
    index: int = 0,
    offset: timedelta = timedelta(),
    client_id: str = "us",
    **fields: Any,
) -> ClientProof | Misconfigured:
    profile = ProviderProfile(slug="acme", client_id=client_id, **fields)
    provider_secrets = ProviderSecrets(
        client_secrets=tuple(Secret(secret) for secret in secrets),
        private_key=None if key is None else Secret(key),
    )
    clients = ClientAuthenticator(lambda one: {"acme": provider_secrets}[one.slug], now=lambda: NOW)
    return clients.proof(profile, endpoint=ENDPOINT, secret_index=index, clock_offset=offset)


def proved(**fields: Any) -> ClientProof:
    proof = prove(**fields)
    assert isinstance(proof, ClientProof)
    return proof


def basic(**fields: Any) -> str:
    header = proved(client_auth=ClientAuth.CLIENT_SECRET_BASIC, **fields).authorization
    assert header is not None
    kind, _, text = header.partition(" ")
    assert kind == "Basic"
    return base64.b64decode(text).decode()


def assertion(
    key: bytes, public: jwk.Key, algorithm: str, **fields: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    proof = proved(
        client_auth=ClientAuth.PRIVATE_KEY_JWT, key=key, assertion_algorithm=algorithm, **fields
    )
    assert proof.authorization is None
    assert proof.parameters["client_id"] == "us"
    assert proof.parameters["client_assertion_type"] == (
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    )
    token = jwt.decode(proof.parameters["client_assertion"], public, [algorithm])
    return token.header, token.claims


def test_basic_form_encodes_id_and_secret_first():
    assert basic(client_id="a:b", secrets=(b"p+q/ r%&\xc3\xbc",)) == "a%3Ab:p%2Bq%2F+r%25%26%C3%BC"


def test_raw_basic_takes_them_as_they_are():
    assert basic(secrets=(b"p+q/ r%",), basic_encoding=BasicEncoding.RAW) == "us:p+q/ r%"


def test_the_secret_may_be_the_user_of_basic_alone():
    encoding = BasicEncoding.SECRET_AS_USER

    assert basic(secrets=(b"sk_p+q/ r%",), basic_encoding=encoding) == "sk_p+q/ r%:"


def test_basic_puts_nothing_into_the_body():
    assert not proved(client_auth=ClientAuth.CLIENT_SECRET_BASIC, secrets=(b"s",)).parameters


def test_post_puts_both_into_the_body():
    proof = proved(client_auth=ClientAuth.CLIENT_SECRET_POST, secrets=(b"s",))

    assert proof.parameters == {"client_id": "us", "client_secret": "s"}
    assert proof.authorization is None


def test_a_public_client_says_who_it_is_and_shows_no_secret():
    proof = proved(client_auth=ClientAuth.NONE, secrets=(b"s",))

    assert proof == ClientProof(parameters={"client_id": "us"})


def test_a_provider_without_clients_is_told_none():
    assert proved(client_auth=ClientAuth.NONE, client_id="") == ClientProof()


@pytest.mark.parametrize(("index", "expected"), [(0, "us:old"), (1, "us:new")])
def test_the_secret_that_was_asked_for_is_used(index: int, expected: str):
    assert basic(secrets=(b"old", b"new"), index=index) == expected


@pytest.mark.parametrize("auth", [ClientAuth.CLIENT_SECRET_BASIC, ClientAuth.CLIENT_SECRET_POST])
@pytest.mark.parametrize("index", [1, -1])
def test_a_secret_that_is_not_configured_is_missing(auth: ClientAuth, index: int):
    proof = prove(client_auth=auth, secrets=(b"only",), index=index)

    assert proof == Misconfigured(code="client_secret_missing")


@pytest.mark.parametrize("error", [KeyError("acme"), OSError("gone")])
def test_secrets_that_cannot_be_looked_up_are_missing(error: Exception):
    def lookup(_profile: ProviderProfile) -> ProviderSecrets:
        raise error

    clients = ClientAuthenticator(lookup, now=lambda: NOW)
    profile = ProviderProfile(slug="acme", client_id="us")

    proof = clients.proof(profile, endpoint=ENDPOINT, secret_index=0, clock_offset=timedelta())

    assert proof == Misconfigured(code="client_secret_missing")


def test_a_secret_that_is_no_text_is_unusable():
    assert prove(secrets=(b"\xff",)) == Misconfigured(code="client_secret_unusable")


@pytest.mark.parametrize("auth", [auth for auth in ClientAuth if auth is not ClientAuth.NONE])
def test_a_client_without_an_id_is_told(auth: ClientAuth):
    proof = prove(client_auth=auth, client_id="", secrets=(b"s",), key=pem(RSA))

    assert proof == Misconfigured(code="client_id_missing")


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256"])
def test_an_rsa_key_signs_an_assertion(algorithm: str):
    header, claims = assertion(pem(RSA), jwk.RSAKey.import_key(pem(RSA)), algorithm)

    assert header == {"typ": "JWT", "alg": algorithm}
    assert claims.pop("jti")
    issued_at = int(NOW.timestamp())
    assert claims == {
        "iss": "us",
        "sub": "us",
        "aud": ENDPOINT,
        "iat": issued_at,
        "exp": issued_at + 60,
    }


def test_an_assertion_may_name_another_issuer_than_the_client():
    key = jwk.ECKey.import_key(pem(EC))

    _, claims = assertion(pem(EC), key, "ES256", assertion_issuer="app.example")

    assert (claims["iss"], claims["sub"]) == ("app.example", "us")


def test_an_ec_key_signs_an_assertion():
    header, _ = assertion(pem(EC), jwk.ECKey.import_key(pem(EC)), "ES256")

    assert header["alg"] == "ES256"


def test_a_jwk_signs_and_brings_its_key_id():
    key = jwk.ECKey.import_key(pem(EC))
    text = msgspec.json.encode({**key.as_dict(private=True), "kid": "its-own"})

    assert assertion(text, key, "ES256")[0]["kid"] == "its-own"
    assert assertion(text, key, "ES256", assertion_key_id="ours")[0]["kid"] == "ours"


def test_audience_and_key_id_come_from_the_profile():
    header, claims = assertion(
        pem(RSA),
        jwk.RSAKey.import_key(pem(RSA)),
        "RS256",
        assertion_audience="https://aud.example",
        assertion_key_id="k1",
    )

    assert header["kid"] == "k1"
    assert claims["aud"] == "https://aud.example"


@pytest.mark.parametrize("offset", [timedelta(minutes=-10), timedelta(hours=2)])
def test_an_assertion_is_timed_by_the_providers_clock(offset: timedelta):
    _, claims = assertion(pem(RSA), jwk.RSAKey.import_key(pem(RSA)), "RS256", offset=offset)

    assert claims["iat"] == int((NOW + offset).timestamp())
    assert claims["exp"] == claims["iat"] + 60


def test_every_assertion_has_an_id_of_its_own():
    key = jwk.RSAKey.import_key(pem(RSA))

    ids = {assertion(pem(RSA), key, "RS256")[1]["jti"] for _ in range(3)}

    assert len(ids) == 3


def test_a_key_that_was_replaced_is_used_at_once():
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    held = list(keys)
    clients = ClientAuthenticator(
        lambda _: ProviderSecrets(private_key=Secret(pem(held[0]))), now=lambda: NOW
    )
    profile = ProviderProfile(
        slug="acme",
        client_id="us",
        client_auth=ClientAuth.PRIVATE_KEY_JWT,
        assertion_algorithm="ES256",
    )
    for key in keys:
        held[0] = key

        proof = clients.proof(profile, endpoint=ENDPOINT, secret_index=0, clock_offset=timedelta())

        assert isinstance(proof, ClientProof)
        public = jwk.ECKey.import_key(pem(key))
        jwt.decode(proof.parameters["client_assertion"], public, ["ES256"])


PUBLIC = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
P384 = ec.generate_private_key(ec.SECP384R1())


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (b"no key at all", "RS256"),
        (b"{}", "RS256"),
        (b"{broken", "RS256"),
        (b'{"kty":"RSA","n":1}', "RS256"),
        (b"\xff\xfe", "RS256"),
        (b"", "RS256"),
        (pem(RSA)[:200] + b"\n-----END PRIVATE KEY-----\n", "RS256"),
        (PUBLIC, "RS256"),
        (pem(EC), "RS256"),
        (pem(RSA), "ES256"),
        (pem(P384), "ES256"),
        (b'{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}', "RS256"),
    ],
)
def test_a_key_that_cannot_sign_is_unusable(key: bytes, algorithm: str):
    proof = prove(client_auth=ClientAuth.PRIVATE_KEY_JWT, key=key, assertion_algorithm=algorithm)

    assert proof == Misconfigured(code="client_key_unusable")


@pytest.mark.parametrize("algorithm", ["none", "HS256", "EdDSA", "", "RS1"])
def test_an_algorithm_that_proves_nothing_is_not_used(algorithm: str):
    proof = prove(
        client_auth=ClientAuth.PRIVATE_KEY_JWT, key=pem(RSA), assertion_algorithm=algorithm
    )

    assert proof == Misconfigured(code="assertion_algorithm_unknown")


def test_a_key_that_is_not_configured_is_missing():
    proof = prove(client_auth=ClientAuth.PRIVATE_KEY_JWT)

    assert proof == Misconfigured(code="client_key_missing")


def test_nothing_shows_a_secret():
    secrets = ProviderSecrets(client_secrets=(Secret(b"hush"),), private_key=Secret(b"hush"))
    clients = ClientAuthenticator(lambda _: secrets, now=lambda: NOW)
    proof = proved(client_auth=ClientAuth.CLIENT_SECRET_POST, secrets=(b"hush",))

    assert "hush" not in f"{secrets!r} {secrets} {clients!r} {proof!r} {proof}"
