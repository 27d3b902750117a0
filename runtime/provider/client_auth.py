"""How the client proves itself at a token endpoint: by a secret, a signed JWT, or not at all."""

import base64
import re
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import quote_plus

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from joserfc import jwk, jwt
from joserfc.errors import JoseError

from domain.credentials import Secret
from domain.exchange import Misconfigured
from domain.profile import BasicEncoding, ClientAuth, ProviderProfile

_ASSERTION_LIFETIME_S = 60
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_KEY_TYPES: dict[str, Literal["RSA", "EC"]] = {"RS": "RSA", "PS": "RSA", "ES": "EC"}
ASSERTION_ALGORITHMS = frozenset(
    kind + bits for kind in _KEY_TYPES for bits in ("256", "384", "512")
)

_SigningKey = jwk.RSAKey | jwk.ECKey
_KEY_ERRORS = (JoseError, ValueError, TypeError, LookupError, AttributeError, UnsupportedAlgorithm)
"""What a broken key can raise in the libraries below; their texts may quote it."""


class ProviderSecrets(msgspec.Struct, frozen=True, kw_only=True):
    """What a client proves itself with at one provider. Never shows."""

    client_secrets: tuple[Secret, ...] = ()
    """In the order of the configuration; two while one is being replaced."""
    private_key: Secret | None = None
    """PEM, or a JWK as JSON; without a password."""

    def __repr__(self) -> str:
        """Show that there are secrets, and nothing of them."""
        return "ProviderSecrets(***)"


class ClientProof(msgspec.Struct, frozen=True, kw_only=True):
    """What a token request carries to prove the client. Never shows."""

    parameters: dict[str, str] = {}
    authorization: str | None = None

    def __repr__(self) -> str:
        """Show that there is a proof, and nothing of it."""
        return "ClientProof(***)"


class ClientAuthenticator:
    """Makes proofs, with secrets that are looked up each time and keys that are parsed once."""

    def __init__(
        self, secrets: Callable[[ProviderProfile], ProviderSecrets], *, now: Callable[[], datetime]
    ) -> None:
        """Take the secrets by profile.

        Args:
            secrets: May raise LookupError or OSError where there are none.
            now: The time, aware UTC.
        """
        self._secrets = secrets
        self._now = now
        self._keys: dict[str, tuple[bytes, str, _SigningKey]] = {}

    def __repr__(self) -> str:
        """Show nothing."""
        return "ClientAuthenticator(***)"

    def proof(
        self, profile: ProviderProfile, *, endpoint: str, secret_index: int, clock_offset: timedelta
    ) -> ClientProof | Misconfigured:
        """Return the proof that ``profile`` asks for, or what the configuration lacks.

        Args:
            profile: Says how.
            endpoint: The token endpoint, which is an assertion's default audience.
            secret_index: Which client secret; 0 is the first configured.
            clock_offset: How far the provider's clock is ahead of ours (quirk 9).

        Source:
            RFC 6749 section 2.3.1, RFC 7521 section 4.2, RFC 7523 sections 2.2 and 3; quirk 30.
        """
        if profile.client_auth is ClientAuth.NONE:
            # Some providers want no client at all: their token says it (quirk 31).
            return ClientProof(parameters=_client_id(profile) if profile.client_id else {})
        if not profile.client_id:
            return Misconfigured(code="client_id_missing")
        try:
            secrets = self._secrets(profile)
        except (LookupError, OSError):
            secrets = ProviderSecrets()
        if profile.client_auth is ClientAuth.PRIVATE_KEY_JWT:
            return self._assertion(profile, secrets, endpoint, clock_offset)
        return _shown(profile, secrets, secret_index)

    def _assertion(
        self,
        profile: ProviderProfile,
        secrets: ProviderSecrets,
        endpoint: str,
        clock_offset: timedelta,
    ) -> ClientProof | Misconfigured:
        """Sign a fresh assertion; its times are the provider's, or a skewed clock fails it."""
        if profile.assertion_algorithm not in ASSERTION_ALGORITHMS:
            return Misconfigured(code="assertion_algorithm_unknown")
        if secrets.private_key is None:
            return Misconfigured(code="client_key_missing")
        issued_at = int((self._now() + clock_offset).timestamp())
        claims = {
            "iss": profile.assertion_issuer or profile.client_id,
            "sub": profile.client_id,
            "aud": profile.assertion_audience or endpoint,
            "jti": str(uuid.uuid4()),
            "iat": issued_at,
            "exp": issued_at + _ASSERTION_LIFETIME_S,
        }
        algorithm = profile.assertion_algorithm
        try:
            key = self._key(profile, secrets.private_key.reveal())
            header = {"alg": algorithm}
            key_id = profile.assertion_key_id or key.kid
            if key_id is not None:
                header["kid"] = key_id
            assertion = jwt.encode(header, claims, key, [algorithm])
        except _KEY_ERRORS:
            return Misconfigured(code="client_key_unusable")
        # RFC 7521 makes client_id optional here; Microsoft, for one, wants it.
        parameters = {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": assertion}
        return ClientProof(parameters={**_client_id(profile), **parameters})

    def _key(self, profile: ProviderProfile, text: bytes) -> _SigningKey:
        """Return the parsed key: checking an RSA key takes longer than signing with it.

        Raises:
            ValueError: It is not a key.
            JoseError: It is none for this algorithm.
        """
        algorithm = profile.assertion_algorithm
        known = self._keys.get(profile.slug)
        if known is not None and known[:2] == (text, algorithm):
            return known[2]
        key = _parsed(text, _KEY_TYPES[algorithm[:2]])
        self._keys[profile.slug] = (text, algorithm, key)
        return key


def fault_of_key(text: bytes, algorithm: str) -> str | None:
    """Return why a private key cannot sign with ``algorithm``, and what to do; None: it can.

    Quotes nothing of the key.
    """
    if re.search(rb"BEGIN ENCRYPTED|Proc-Type: 4,ENCRYPTED", text):
        return "it is encrypted: give it without a password (openssl pkey -in FILE -out FILE)"
    key_type = _KEY_TYPES[algorithm[:2]]
    try:
        key = _parsed(text, key_type)
    except _KEY_ERRORS:
        other: Literal["RSA", "EC"] = "EC" if key_type == "RSA" else "RSA"
        try:
            _parsed(text, other)
        except _KEY_ERRORS:
            return "it is no private key: PEM or a JWK, RSA or EC, is needed"
        return f"it is of type {other}, but assertion_algorithm is {algorithm}"
    if not key.is_private:
        return "it is the public key: the private one is needed"
    try:
        jwt.encode({"alg": algorithm}, {}, key, [algorithm])
    except _KEY_ERRORS:
        return f"it cannot sign with {algorithm}: another curve, size or algorithm"
    return None


def _parsed(text: bytes, key_type: Literal["RSA", "EC"]) -> _SigningKey:
    """Return the key in PEM or a JWK.

    Raises:
        ValueError, JoseError: And the others of ``_KEY_ERRORS``: it is none of that type.
    """
    data = msgspec.json.decode(text, type=dict) if text.lstrip()[:1] == b"{" else text
    return jwk.RSAKey.import_key(data) if key_type == "RSA" else jwk.ECKey.import_key(data)


def _shown(
    profile: ProviderProfile, secrets: ProviderSecrets, index: int
) -> ClientProof | Misconfigured:
    """Return the proof that shows a client secret."""
    if not 0 <= index < len(secrets.client_secrets):
        return Misconfigured(code="client_secret_missing")
    try:
        secret = secrets.client_secrets[index].reveal().decode()
    except UnicodeDecodeError:
        return Misconfigured(code="client_secret_unusable")
    if profile.client_auth is ClientAuth.CLIENT_SECRET_POST:
        return ClientProof(parameters={**_client_id(profile), "client_secret": secret})
    return ClientProof(authorization=_basic(profile, secret))


def _client_id(profile: ProviderProfile) -> dict[str, str]:
    return {"client_id": profile.client_id}


def _basic(profile: ProviderProfile, secret: str) -> str:
    """Return the Basic header; form-encoding first is the RFC's, and not everybody's (quirk 30)."""
    pair = (profile.client_id, secret)
    if profile.basic_encoding is BasicEncoding.SECRET_AS_USER:
        pair = (secret, "")
    if profile.basic_encoding is BasicEncoding.RFC:
        pair = (quote_plus(pair[0]), quote_plus(pair[1]))
    return "Basic " + base64.b64encode(":".join(pair).encode()).decode()
