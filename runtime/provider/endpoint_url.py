"""Where a token request may go: templates filled in, and the host pinned.

A template is taken apart before anything is put into it, so a value can fill the place that
the template gives it and no other. A host that a value had a part in must be on the
profile's list; https only, except to loopback.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import NamedTuple

from domain.exchange import Misconfigured

ENDPOINT_BASE = "endpoint_base"
"""The template that stands for the host that an earlier answer named (quirk 32)."""

_TEMPLATE = re.compile(r"\{([A-Za-z][A-Za-z0-9_]{0,63})\}")
_SAFE_VALUE = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9._-]{1,253}")
_PLAIN_VALUE = re.compile(r"[^\x00-\x1f\x7f]{0,2048}")
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._{}-]+)(:(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/{}-]*)?(?P<query>\?[A-Za-z0-9._~!$&'()*+,;=:@%/?{}-]*)?"
)
_BASE = re.compile(
    r"((?P<scheme>https?)://)?(?P<host>[A-Za-z0-9.-]{1,253})(:(?P<port>[0-9]{1,5}))?/?"
)
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
_DEFAULT_PORTS = {"https": 443, "http": 80}


class _RefusedError(Exception):
    """A URL cannot be used; ``code`` is a word of ours, never a part of the URL."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _Parts(NamedTuple):
    scheme: str
    host: str
    port: int | None
    path: str
    query: str

    @property
    def effective_port(self) -> int:
        """The port that is connected to."""
        return self.port or _DEFAULT_PORTS[self.scheme]

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.path}{self.query}"


def resolved_url(
    template: str,
    *,
    values: Mapping[str, str],
    endpoint_base: str | None = None,
    allowed_hosts: tuple[str, ...] = (),
) -> str | Misconfigured:
    """Return the URL that ``template`` gives with ``values``, or why it may not be used.

    Guaranteed of a URL: https, or http to loopback; no user-info, no fragment, no dot segments; a
    port only where the template names it; the template's own host, or one of ``allowed_hosts``.

    Args:
        template: ``https://host/path`` with ``{name}`` in the host, the path or the query.
        values: For the names: ``[A-Za-z0-9._-]``, no dot in front, no two dots in a row.
        endpoint_base: A host or URL for ``{endpoint_base}``; only its host is taken.
        allowed_hosts: ``host``, or ``*.domain`` for one label or more in front of the domain.

    Source:
        PROVIDERS.md quirks 32 and 33.
    """
    base = endpoint_base or values.get(ENDPOINT_BASE)
    try:
        return str(_resolved(template, values, base, allowed_hosts))
    except _RefusedError as refused:
        return Misconfigured(code=refused.code)


def template_names(text: str) -> tuple[str, ...]:
    """Return the names of the templates in a text, in their order."""
    return tuple(_TEMPLATE.findall(text))


def may_be_allowed(host: str, allowed_hosts: tuple[str, ...]) -> bool:
    """Whether any values for the templates in ``host`` lead to one of ``allowed_hosts``.

    Args:
        host: Of a template, with its port if it names one.
        allowed_hosts: As for ``resolved_url``.
    """
    name = re.sub(r":[0-9]*\Z", "", host).lower()
    fixed = _TEMPLATE.split(name)[::2]
    shape = re.compile("[a-z0-9._-]+".join(map(re.escape, fixed)))
    return any(
        # What stands for the star and for the last template can be anything.
        allowed[1:].endswith(fixed[-1]) or fixed[-1].endswith(allowed[1:])
        if allowed.startswith("*.")
        else shape.fullmatch(allowed) is not None
        for allowed in map(str.lower, allowed_hosts)
    )


def discovered_url(url: str, *, issuer: str, allowed_hosts: tuple[str, ...]) -> str | Misconfigured:
    """Return an endpoint that ``issuer`` itself names, or why it may not be used.

    It must be at the issuer's own host or at one of ``allowed_hosts``, and no less protected.

    Args:
        url: From the issuer's metadata, so it is not trusted.
        issuer: A URL that ``resolved_url`` returned.
        allowed_hosts: As for ``resolved_url``.
    """
    try:
        return str(_discovered(url, issuer, allowed_hosts))
    except _RefusedError as refused:
        return Misconfigured(code=refused.code)


def filled(text: str, values: Mapping[str, str]) -> str | Misconfigured:
    """Return a request parameter with its templates filled in.

    A parameter is encoded when it is sent, so any text without control characters will do.
    """
    try:
        return _filled(text, values, _PLAIN_VALUE)
    except _RefusedError as refused:
        return Misconfigured(code=refused.code)


def _resolved(
    template: str,
    values: Mapping[str, str],
    endpoint_base: str | None,
    allowed_hosts: tuple[str, ...],
) -> _Parts:
    if template.startswith(f"{{{ENDPOINT_BASE}}}"):
        is_plain = endpoint_base is not None and endpoint_base.lower().startswith("http://")
        template = ("http://" if is_plain else "https://") + template
    parts = _taken_apart(template)
    host = parts.host
    if f"{{{ENDPOINT_BASE}}}" in host:
        host = host.replace(f"{{{ENDPOINT_BASE}}}", _base_host(endpoint_base, parts))
    host = _checked_host(_filled(host, values, _SAFE_VALUE).lower())
    if "{" in parts.host and not _is_allowed(host, allowed_hosts):
        raise _RefusedError("host_not_allowed")
    whole = parts._replace(
        host=host,
        path=_filled(parts.path, values, _SAFE_VALUE),
        query=_filled(parts.query, values, _SAFE_VALUE),
    )
    _check_protected(whole)
    return whole


def _discovered(url: str, issuer: str, allowed_hosts: tuple[str, ...]) -> _Parts:
    parts, home = _taken_apart(url), _taken_apart(issuer)
    parts = parts._replace(host=_checked_host(parts.host))
    is_home = (parts.host, parts.effective_port) == (home.host, home.effective_port)
    if not is_home and (parts.port is not None or not _is_allowed(parts.host, allowed_hosts)):
        raise _RefusedError("host_not_allowed")
    if home.scheme == "https" and parts.scheme != "https":
        raise _RefusedError("endpoint_not_https")
    _check_protected(parts)
    return parts


def _taken_apart(url: str) -> _Parts:
    """Return the parts of a URL or of a template; nothing is filled in yet."""
    match = _URL.fullmatch(url)
    if match is None:
        raise _RefusedError("endpoint_malformed")
    port = None if match["port"] is None else int(match["port"])
    if port is not None and not 1 <= port <= 65535:  # noqa: PLR2004 -- what a port can be
        raise _RefusedError("endpoint_malformed")
    host = match["host"] if "{" in match["host"] else match["host"].lower()
    return _Parts(match["scheme"], host, port, match["path"] or "", match["query"] or "")


def _base_host(endpoint_base: str | None, parts: _Parts) -> str:
    """Return the host of what an answer named; its port and scheme must be the template's."""
    if endpoint_base is None:
        raise _RefusedError("template_value_missing")
    match = _BASE.fullmatch(endpoint_base)
    if match is None:
        raise _RefusedError("endpoint_base_malformed")
    scheme = match["scheme"] or parts.scheme
    port = parts.effective_port if match["port"] is None else int(match["port"])
    if (scheme, port) != (parts.scheme, parts.effective_port):
        raise _RefusedError("endpoint_base_malformed")
    return match["host"]


def _filled(text: str, values: Mapping[str, str], pattern: re.Pattern[str]) -> str:
    def value_of(match: re.Match[str]) -> str:
        value = values.get(match[1])
        if value is None:
            raise _RefusedError("template_value_missing")
        if pattern.fullmatch(value) is None:
            raise _RefusedError("template_value_malformed")
        return value

    return _TEMPLATE.sub(value_of, text)


def _checked_host(host: str) -> str:
    is_host = _HOST.fullmatch(host) is not None or (host.startswith("[") and _address(host))
    if not is_host:
        raise _RefusedError("endpoint_malformed")
    return host


def _check_protected(parts: _Parts) -> None:
    """Check what holds for every URL once it is whole.

    Raises:
        _RefusedError: It is http to another machine, or its path is not what it looks like.
    """
    if re.search(r"[{}]", parts.path + parts.query) or _has_dot_segment(parts.path):
        raise _RefusedError("endpoint_malformed")
    if parts.scheme != "https" and not _is_loopback(parts.host):
        raise _RefusedError("endpoint_not_https")


def _has_dot_segment(path: str) -> bool:
    dots = re.compile(r"(\.|%2e){1,2}", re.IGNORECASE)
    return any(dots.fullmatch(segment) for segment in path.split("/"))


def _is_allowed(host: str, allowed_hosts: tuple[str, ...]) -> bool:
    for allowed in allowed_hosts:
        name = allowed.lower()
        if name.startswith("*."):
            # A name under the domain, never the domain itself.
            if host.endswith(name[1:]):
                return True
        elif host == name:
            return True
    return False


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
