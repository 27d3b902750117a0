"""Clients, and how they prove who they are (RFC 6749 section 2.3, RFC 7523 section 2.2)."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from runtime.fake_provider.asked import Asked
from runtime.fake_provider.grants import Refused
from runtime.fake_provider.quirks import Quirks

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ALGORITHMS = ["RS256", "ES256"]
_ASSERTION_LIFE_S_MAX = 3600.0
_SEEN_MAX = 10_000


class Client(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One client. Never shows its secrets."""

    client_id: str
    client_secrets: tuple[str, ...] = ()
    """All are accepted: two while one is being replaced. None makes a public client."""
    public_key: str | None = None
    """PEM of an RSA (RS256) or P-256 key (ES256), for ``private_key_jwt``."""

    def __repr__(self) -> str:
        """Show the id only."""
        return f"Client({self.client_id!r})"


DEFAULT_CLIENT = Client(client_id="fake-client", client_secrets=("fake-secret",))
"""Who may come where nothing else is said."""


class ClientDesk:
    """Knows the clients, and remembers the assertions that were used."""

    def __init__(self, clients: tuple[Client, ...]) -> None:
        """Start with these."""
        self.clients = {client.client_id: client for client in clients}
        self._seen: dict[str, None] = {}

    def put(self, client: Client) -> None:
        """Add a client, or replace the one of that id.

        Raises:
            ValueError: Its public key cannot be read.
        """
        if client.public_key is not None:
            _key(client.public_key)
        self.clients[client.client_id] = client

    def check(
        self, asked: Asked, *, quirks: Quirks, audiences: tuple[str, ...], now_s: float
    ) -> Client | Refused:
        """Return the client that a request proves to come from.

        Args:
            asked: The request.
            quirks: Which method is asked for.
            audiences: What an assertion may be addressed to.
            now_s: The server's clock.
        """
        method, *others = _methods(asked) or ["none"]
        if others:
            return Refused(code="invalid_request", description="One authentication method only.")
        if quirks.client_auth not in ("any", method):
            return _invalid_client(f"This server expects {quirks.client_auth}.")
        if method == "client_secret_basic":
            name, secret = _basic(asked.authorization, quirks.basic_encoding)
            return self._with_secret(name, secret)
        if method == "private_key_jwt":
            return self._with_assertion(asked, audiences=audiences, now_s=now_s)
        name = asked.parameters.get("client_id", "")
        if method == "client_secret_post":
            return self._with_secret(name, asked.parameters["client_secret"])
        return self._with_nothing(name, is_enough=quirks.client_auth == "none")

    def _with_nothing(self, name: str, *, is_enough: bool) -> Client | Refused:
        """Let in a public client, and any other where no authentication is asked for."""
        client = self.clients.get(name)
        if client is None:
            return _invalid_client("Unknown client.")
        if not is_enough and (client.client_secrets or client.public_key):
            return _invalid_client("The client must authenticate.")
        return client

    def _with_secret(self, name: str, secret: str) -> Client | Refused:
        client = self.clients.get(name)
        given = secret.encode(errors="replace")
        known = () if client is None else client.client_secrets
        if client is None or not any(hmac.compare_digest(one.encode(), given) for one in known):
            return _invalid_client("Unknown client or wrong secret.")
        return client

    def _with_assertion(
        self, asked: Asked, *, audiences: tuple[str, ...], now_s: float
    ) -> Client | Refused:
        """Check a signed assertion: by whom, for whom, until when, and never twice."""
        if asked.parameters.get("client_assertion_type") != ASSERTION_TYPE:
            return _invalid_client("Unknown client_assertion_type.")
        assertion = asked.parameters["client_assertion"]
        name = asked.parameters.get("client_id") or _unverified_issuer(assertion)
        client = self.clients.get(name)
        if client is None or client.public_key is None:
            return _invalid_client("Unknown client, or it has no key.")
        try:
            key = _key(client.public_key)
            claims = jwt.decode(assertion, key, algorithms=_ALGORITHMS).claims
        except (JoseError, ValueError):
            return _invalid_client("The signature is wrong.")
        fault = _claims_fault(claims, client.client_id, audiences, now_s)
        if fault is not None:
            return _invalid_client(fault)
        jti = str(claims["jti"])
        if jti in self._seen:
            return _invalid_client("The assertion was used before.")
        self._seen[jti] = None
        if len(self._seen) > _SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        return client


def _methods(asked: Asked) -> list[str]:
    """Return the authentication methods that a request uses."""
    methods: list[str] = []
    if asked.authorization[:6].lower() == "basic ":
        methods.append("client_secret_basic")
    if "client_secret" in asked.parameters:
        methods.append("client_secret_post")
    if "client_assertion" in asked.parameters:
        methods.append("private_key_jwt")
    return methods


def _basic(header: str, encoding: str) -> tuple[str, str]:
    """Return id and secret of a Basic header (RFC 7617; RFC 6749 section 2.3.1)."""
    try:
        text = base64.b64decode(header[6:].strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    name, _, secret = text.partition(":")
    if encoding == "raw":
        return name, secret
    return unquote_plus(name), unquote_plus(secret)


def _key(pem: str) -> RSAKey | ECKey:
    """Return a public key.

    Raises:
        ValueError: It cannot be read.
    """
    for kind in (RSAKey, ECKey):
        try:
            return kind.import_key(pem)
        except (JoseError, ValueError, TypeError):
            continue
    raise ValueError("public_key: expected the PEM of an RSA or EC public key")


def _unverified_issuer(assertion: str) -> str:
    """Return whom an assertion claims to be from, to find the key to check it with."""
    payload = assertion.split(".")[1] if assertion.count(".") else ""
    try:
        text = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        return str(msgspec.json.decode(text, type=dict[str, Any]).get("iss", ""))
    except (binascii.Error, ValueError, msgspec.MsgspecError, UnicodeDecodeError):
        return ""


def _claims_fault(
    claims: Mapping[str, Any], client_id: str, audiences: tuple[str, ...], now_s: float
) -> str | None:
    """Return what is wrong with an assertion's claims (RFC 7523 section 3)."""
    named = claims.get("aud")
    addressed = named if isinstance(named, list) else [named]
    ends = claims.get("exp")
    begins = claims.get("nbf", now_s)
    if claims.get("iss") != client_id or claims.get("sub") != client_id:
        return "iss and sub must be the client_id."
    if not any(one in audiences for one in addressed):
        return "The assertion is addressed to another server."
    if not isinstance(ends, int | float) or not now_s < ends <= now_s + _ASSERTION_LIFE_S_MAX:
        return "exp must lie ahead, by an hour at most."
    if not isinstance(begins, int | float) or begins > now_s:
        return "nbf lies ahead."
    if not claims.get("jti"):
        return "jti is missing."
    return None


def _invalid_client(description: str) -> Refused:
    """Return the refusal of RFC 6749 section 5.2."""
    return Refused(
        code="invalid_client",
        description=description,
        status=401,
        headers={"www-authenticate": 'Basic realm="fake-provider"'},
    )
