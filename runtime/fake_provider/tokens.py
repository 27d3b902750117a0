"""Tokens that name their grant and their place in it, so that none has to be remembered.

However old a spent refresh token is, it is known for what it is, in constant memory.
"""

import base64
import hashlib
import hmac
from typing import Literal, NamedTuple

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

Kind = Literal["at", "rt"]
_PARTS = 4
_MAC_BYTES = 15
_JWT_ALGORITHM = "HS256"


class Place(NamedTuple):
    """Which token of which grant."""

    grant_id: str
    serial: int


def fingerprint(token: str) -> str:
    """Return the SHA-256 of a token in hex: what is shown in its place."""
    return hashlib.sha256(token.encode()).hexdigest()


class TokenMint:
    """Makes tokens, and knows its own."""

    def __init__(self, key: bytes) -> None:
        """Sign with ``key``; tokens signed with another are unknown."""
        self._key = key
        self._jwk = OctKey.import_key(key)

    def mint(self, kind: Kind, place: Place) -> str:
        """Return the token of that place, always the same one."""
        text = f"{kind}-{place.grant_id}-{place.serial}"
        return f"{text}-{self._mac(text)}"

    def mint_jwt(self, place: Place, *, issued_at: float, expires_at: float) -> str:
        """Return an access token that tells its end (RFC 9068)."""
        claims = {
            "sub": place.grant_id,
            "jti": self.mint("at", place),
            "iat": int(issued_at),
            "exp": int(expires_at),
        }
        return jwt.encode({"alg": _JWT_ALGORITHM, "typ": "at+jwt"}, claims, self._jwk)

    def read(self, kind: Kind, token: str) -> Place | None:
        """Return the place of a token of that kind, or None where it is no such token."""
        if kind == "at" and token.count(".") == 2:  # noqa: PLR2004 -- a compact JWS has two
            try:
                claims = jwt.decode(token, self._jwk, algorithms=[_JWT_ALGORITHM]).claims
            except (JoseError, ValueError):
                return None
            token = str(claims.get("jti", ""))
        parts = token.split("-", _PARTS - 1)
        if len(parts) != _PARTS or parts[0] != kind or not token.isascii():
            return None
        text = token[: -len(parts[-1]) - 1]
        if not hmac.compare_digest(parts[-1], self._mac(text)):
            return None
        return Place(parts[1], int(parts[2]))

    def _mac(self, text: str) -> str:
        mac = hmac.digest(self._key, text.encode(), "sha256")
        return base64.urlsafe_b64encode(mac[:_MAC_BYTES]).decode()
