"""A token request as the provider wants it: form, JSON or query; its parameters and headers."""

import re
import uuid
from collections.abc import Mapping
from urllib.parse import urlencode

import httpx2
import msgspec

from domain.exchange import ExchangeRequest, Misconfigured
from domain.profile import BodyFormat, Method
from runtime import VERSION
from runtime.provider.client_auth import ClientProof
from runtime.provider.endpoint_url import filled

USER_AGENT = f"refreshd/{VERSION}"

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]{0,2000}[\x21-\x7e])?|")
_NOT_FOR_PROFILES = frozenset({"host", "content-length", "transfer-encoding", "connection"})
"""Headers that frame the request."""


def token_request(
    request: ExchangeRequest, proof: ClientProof, *, endpoint: str
) -> httpx2.Request | Misconfigured:
    """Return the one request that presents the token, or what the profile lacks.

    Source:
        RFC 6749 section 6; PROVIDERS.md quirks 14, 29 and 31.
    """
    profile = request.profile
    values = {"request_id": str(uuid.uuid4()), **profile.params, **(request.params or {})}
    parameters = _parameters(request, proof, values)
    if isinstance(parameters, Misconfigured):
        return parameters
    # Without ``Accept``, GitHub for one answers form-encoded (quirk 14).
    headers = httpx2.Headers({"accept": "application/json", "user-agent": USER_AGENT})
    # No brotli, no zstd: an answer is small, and gzip can be unpacked within bounds.
    headers["accept-encoding"] = "gzip"
    content, url = b"", endpoint
    if profile.body_format is BodyFormat.QUERY or profile.method is Method.GET:
        url = endpoint + ("&" if "?" in endpoint else "?") + urlencode(parameters)
    elif profile.body_format is BodyFormat.JSON:
        content = msgspec.json.encode(parameters)
        headers["content-type"] = "application/json"
    else:
        content = urlencode(parameters).encode()
        headers["content-type"] = "application/x-www-form-urlencoded"
    for name, text in profile.extra_headers.items():
        is_ours = name.lower() in _NOT_FOR_PROFILES
        value = filled(text, values)
        if isinstance(value, Misconfigured):
            return value
        if is_ours or not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            return Misconfigured(code="header_not_allowed")
        headers[name] = value
    if request.trace is not None:
        headers.update(request.trace.headers)
    if proof.authorization is not None:
        headers["authorization"] = proof.authorization
    try:
        return httpx2.Request(profile.method.value, url, headers=headers, content=content)
    except httpx2.InvalidURL:
        return Misconfigured(code="request_too_long")


def _parameters(
    request: ExchangeRequest, proof: ClientProof, values: Mapping[str, str]
) -> dict[str, str] | Misconfigured:
    """Return the parameters; what a profile adds never replaces the token or the client."""
    profile = request.profile
    parameters: dict[str, str] = {}
    if profile.grant_type is not None:
        parameters["grant_type"] = profile.grant_type
    if request.with_scope and profile.scope is not None:
        parameters["scope"] = profile.scope
    for name, text in profile.extra_parameters.items():
        value = filled(text, values)
        if isinstance(value, Misconfigured):
            return value
        parameters[name] = value
    parameters[profile.token_parameter] = request.presented.reveal().decode()
    return {**parameters, **proof.parameters}
