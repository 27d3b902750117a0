"""Plaintext shows in no text that can be made of the things that carry it."""

import copy
import pickle
from uuid import UUID

import msgspec
import pytest

from domain.answers import Refusal
from domain.commands import Connect, Refresh
from domain.credentials import CredentialType, Opaque, Sealed, Secret, Unsealed
from domain.decision import AccessToken
from domain.exchange import Tokens
from domain.oauth_secret import OAuthSecret
from tests.domain.shapes import CONNECTION_ID, NOW

CANARY = "tok-3f9a-canary"
SECRET = Secret(f'{{"access_token":"{CANARY}"}}'.encode())
UNSEALED = Unsealed(credential_type=CredentialType.OAUTH2, secret=SECRET)
OPAQUE = Opaque(data=CANARY.encode())
CARRIERS: list[object] = [
    SECRET,
    UNSEALED,
    OPAQUE,
    Refresh(connection_id=CONNECTION_ID, credentials=UNSEALED),
    Connect(
        connection_id=CONNECTION_ID,
        user_id=UUID(int=1),
        provider_id=UUID(int=2),
        provider_slug="schwab",
        credentials=UNSEALED,
    ),
]


@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: type(carrier).__name__)
def test_no_way_of_printing_shows_the_plaintext(carrier: object) -> None:
    texts = [repr(carrier), str(carrier), f"{carrier}", f"{carrier!a}", repr([carrier])]

    for text in texts:
        assert CANARY not in text


def test_a_secret_shows_as_stars_wherever_it_is_held() -> None:
    assert repr(SECRET) == str(SECRET) == "***"
    assert "secret=***" in repr(UNSEALED)


@pytest.mark.parametrize(
    ("carrier", "shown"),
    [
        (Tokens(access_token=CANARY, expires_at=NOW), "Tokens(***)"),
        (Refusal(description=CANARY, refresh_token=SECRET), "Refusal(***)"),
        (OAuthSecret(SECRET), "***"),
        (
            AccessToken(
                access_token=CANARY,
                token_type="Bearer",
                expires_at=NOW,
                generation=7,
                stale=False,
            ),
            "AccessToken(generation=7)",
        ),
        (Sealed(key_id="k", nonce=b"123", ciphertext=b"4567"), "Sealed(7 bytes under 'k')"),
        (Opaque(data=b"123"), "Opaque(3 bytes)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_holds_a_secret_shows_what_it_is_and_no_more(carrier: object, shown: str) -> None:
    assert repr(carrier) == f"{carrier}" == shown


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("carrier", [SECRET, UNSEALED], ids=["secret", "unsealed"])
def test_a_secret_cannot_be_pickled(carrier: object, protocol: int) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(carrier, protocol)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_a_secret_cannot_be_copied(copied: object) -> None:
    assert callable(copied)

    with pytest.raises(TypeError):
        copied(SECRET)


@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode])
@pytest.mark.parametrize("carrier", [SECRET, UNSEALED], ids=["secret", "unsealed"])
def test_a_secret_cannot_be_stored_or_sent(carrier: object, encode: object) -> None:
    assert callable(encode)

    with pytest.raises(TypeError) as refused:
        encode(carrier)

    assert CANARY not in str(refused.value)


def test_a_secret_holds_its_plaintext_nowhere_that_a_dump_of_attributes_looks() -> None:
    assert not hasattr(SECRET, "__dict__")
    assert SECRET.reveal() == f'{{"access_token":"{CANARY}"}}'.encode()


def test_sealing_keeps_type_and_expiry_and_leaves_the_plaintext_behind() -> None:
    payload = Sealed(key_id="k", nonce=b"n", ciphertext=b"c")
    unsealed = Unsealed(credential_type=CredentialType.LINK_TOKEN, secret=SECRET, expires_at=NOW)

    credentials = unsealed.sealed_as(payload)
    known = unsealed.sealed_as(payload, client_id="me", notes=("no_refresh_token",))

    assert credentials.credential_type is CredentialType.LINK_TOKEN
    assert (credentials.payload, credentials.expires_at) == (payload, NOW)
    assert (credentials.client_id, credentials.notes) == (None, ())
    assert (known.client_id, known.notes) == ("me", ("no_refresh_token",))


def test_a_payload_tells_the_bytes_that_it_takes_at_rest() -> None:
    assert Sealed(key_id="k", nonce=b"123", ciphertext=b"4567").size_bytes == 7
    assert OPAQUE.size_bytes == len(CANARY)


@pytest.mark.parametrize("kind", CredentialType)
def test_only_oauth2_and_link_tokens_can_be_renewed_without_the_user(kind: CredentialType) -> None:
    assert kind.is_refreshable == (kind in ("oauth2", "link_token"))
