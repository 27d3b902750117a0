"""Provider profiles from the configuration: ``[providers.<slug>]``, on top of a shipped one.

A section is data all through: its keys are the fields of ``ProviderProfile``, and secrets are
named by file. A profile of ``runtime/provider/catalogue`` gives what a section does not say.
Every fault is a ``ProfileError`` that names its path and quotes no secret.
"""

import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec import structs

from domain.connection import SLUG_PATTERN
from domain.credentials import Secret
from domain.exchange import Misconfigured
from domain.profile import AnswerPaths, ClientAuth, ErrorRule, ProviderProfile, reuse_policy
from runtime.provider.choices import with_choices
from runtime.provider.client_auth import ProviderSecrets, fault_of_key
from runtime.provider.endpoint_url import may_be_allowed, resolved_url
from runtime.provider.held_profiles import Configured, Profiles
from runtime.provider.route import check_environment, route_of
from runtime.provider.secret_files import ConfigError, located, secret_of

CATALOGUE = Path(__file__).parent / "catalogue"
TIMEOUT_S_MIN = 1.0
TIMEOUT_S_MAX = 120.0
SECRET_FILES_MAX = 2
PATTERN_CHARS_MAX = 500

_SECRET_KEYS = frozenset({"client_secret_file", "client_secret_files", "private_key_file"})
_DERIVED = frozenset({"slug", "client_secrets"})
_FIELDS = frozenset(ProviderProfile.__struct_fields__) - _DERIVED
_TABLES = frozenset({"answer", "params", "extra_parameters", "extra_headers"})
KEYS = _FIELDS | _SECRET_KEYS | {"profile", "ca_file", "proxy"}
_PLACES = ("token_endpoint", "issuer")
_TEMPLATE = re.compile(r"\{[A-Za-z][A-Za-z0-9_]{0,63}\}")
_ALLOWED_HOST = re.compile(
    r"(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
)
_ALGORITHM = re.compile(r"(RS|PS|ES)(256|384|512)")
_WHERE = re.compile(r"(?P<text>.*?) - at `\$(?P<path>[^`]*)`", re.DOTALL)
_NOT_PARAMETERS = frozenset(
    {"client_secret", "client_assertion", "client_assertion_type", "refresh_token", "access_token"}
)
_NOT_HEADERS = frozenset(
    {
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "host",
        "proxy-authorization",
        "transfer-encoding",
    }
)
_URL_FAULTS = {
    "endpoint_not_https": "https is needed, except to loopback",
    "endpoint_malformed": "not a plain URL (no user, no fragment, no dot segments)",
}
_OPTIONAL = frozenset(
    field.name
    for struct in (ProviderProfile, AnswerPaths, ErrorRule)
    for field in structs.fields(struct)
    if field.default is None or field.name == "grant_type"
)


class ProfileError(ConfigError):
    """A provider's section cannot be used; the text names its path."""


def load_profiles(sections: Mapping[str, Mapping[str, Any]]) -> Profiles:
    """Return the profiles that ``[providers]`` configures, their secret files read.

    Raises:
        ProfileError: A section is wrong, or a secret file cannot be read; names the path.
    """
    if sections:
        check_environment()
    return Profiles({slug: configured(slug, section) for slug, section in sections.items()})


def configured(slug: str, section: Mapping[str, Any]) -> Configured:
    """Return one provider, its secret files read.

    Raises:
        ProfileError: As ``load_profiles``.
    """
    profile = configured_profile(slug, section)
    secrets = _secrets_of(profile, section)
    return Configured(profile, secrets, route_of(section, f"providers.{slug}"))


def configured_profile(slug: str, section: Mapping[str, Any]) -> ProviderProfile:
    """Return one provider's profile; its secret files are counted and not read.

    Raises:
        ProfileError: The section is wrong.
    """
    where = f"providers.{slug}"
    if re.match(SLUG_PATTERN, slug) is None:
        raise ProfileError(f"{where}: a slug is 1-50 of a-z, 0-9, _ and -")
    _check_keys(section, where)
    own = {key: value for key, value in section.items() if key in _FIELDS}
    profile = _built(slug, _on_top(_base(slug, section, where), own), where)
    if not profile.client_id and profile.client_auth is not ClientAuth.NONE:
        raise ProfileError(f"{where}.client_id: needed for {profile.client_auth}")
    _check_secret_keys(profile, section, where)
    return structs.replace(profile, client_secrets=len(_secret_files(section)))


def shipped_slugs() -> tuple[str, ...]:
    """Return the names of the profiles that come with the program, sorted."""
    return tuple(sorted(file.stem for file in CATALOGUE.glob("*.toml")))


def shipped_profile(slug: str) -> ProviderProfile:
    """Return a profile as it is shipped: without a client.

    Raises:
        LookupError: None is shipped under that name.
    """
    section = _shipped(slug)
    return structs.replace(_built(slug, section, f"catalogue.{slug}"), client_secrets=0)


def shipped_section(slug: str) -> dict[str, Any]:
    """Return what a shipped profile sets; empty where none is shipped under that name."""
    return _shipped(slug) if slug in shipped_slugs() else {}


def _shipped(slug: str) -> dict[str, Any]:
    if slug not in shipped_slugs():
        raise LookupError(slug)
    return tomllib.loads((CATALOGUE / f"{slug}.toml").read_text())


def _base(slug: str, section: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the shipped section that this one builds upon; empty where there is none."""
    name = section.get("profile", slug)
    if not isinstance(name, str) or ("profile" in section and name not in (*shipped_slugs(), "")):
        raise ProfileError(f"{where}.profile: none of that name is shipped")
    return shipped_section(name)


def _on_top(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the shipped section with the user's on top: tables by key, error lines in front."""
    merged = dict(base)
    if any(own.get(place) for place in _PLACES):
        # A user's own place replaces the shipped one, of whichever kind it is.
        for place in (*_PLACES, "refresh_endpoint"):
            merged.pop(place, None)
    for key, value in own.items():
        below = merged.get(key)
        if key in _TABLES and isinstance(value, dict) and isinstance(below, dict):
            merged[key] = {**below, **value}
        elif key == "error_map" and isinstance(value, list) and isinstance(below, list):
            merged[key] = [*value, *below]
        else:
            merged[key] = value
    return merged


def _built(slug: str, section: Mapping[str, Any], where: str) -> ProviderProfile:
    """Return a section as a checked profile; an empty text stands for None."""
    fields = {key: _emptied(key, value) for key, value in section.items()}
    if "reuse_policy" in fields:
        fields["reuse_policy"] = _reuse_policy(fields["reuse_policy"], where)
    try:
        profile = msgspec.convert({**fields, "slug": slug}, ProviderProfile)
    except msgspec.ValidationError as error:
        text = with_choices(str(error), ProviderProfile)
        raise ProfileError(_told(text, where)) from None
    _check_places(profile, where)
    _check_numbers(profile, where)
    _check_names(profile, where)
    for index, rule in enumerate(profile.error_map):
        _check_rule(rule, f"{where}.error_map[{index}]")
    return profile


def _emptied(key: str, value: object) -> object:
    """Return ``value`` with None for each empty text that may be absent."""
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        if key == "answer":
            return {name: _emptied(name, inner) for name, inner in table.items()}
        return table
    return None if value == "" and key in _OPTIONAL else value


def _reuse_policy(value: object, where: str) -> object:
    try:
        return reuse_policy(value if isinstance(value, str) else "")
    except ValueError:
        raise ProfileError(
            f"{where}.reuse_policy: expected none, strict, grace:<seconds>, non_rotating or unknown"
        ) from None


def _told(error: str, where: str) -> str:
    """Return msgspec's message with our path; it names types and keys, and hardly ever values."""
    found = _WHERE.fullmatch(error)
    return f"{where}: {error}" if found is None else f"{where}{found['path']}: {found['text']}"


def _check_keys(section: Mapping[str, Any], where: str) -> None:
    for key in section:
        if key == "client_secret":
            raise ProfileError(f"{where}.{key}: a secret comes by file: client_secret_file")
        if key not in KEYS:
            raise ProfileError(f"{where}.{key}: no such key")


def _check_places(profile: ProviderProfile, where: str) -> None:
    """Check that it is clear where to go, and that no template leads just anywhere."""
    if (profile.token_endpoint is None) == (profile.issuer is None):
        raise ProfileError(f"{where}: exactly one of token_endpoint and issuer is needed")
    for index, host in enumerate(profile.allowed_hosts):
        if _ALLOWED_HOST.fullmatch(host) is None:
            raise ProfileError(f"{where}.allowed_hosts[{index}]: expected host or *.domain")
    for key in (*_PLACES, "refresh_endpoint"):
        url = getattr(profile, key)
        if url is None:
            continue
        # Each template stands for a plain word here; values are checked again at each request.
        host = re.sub(r"\A(https?://)?([^/?]*).*\Z", r"\2", url, flags=re.DOTALL)
        if "{" in host and not profile.allowed_hosts:
            raise ProfileError(f"{where}.{key}: a template in the host needs allowed_hosts")
        if "{" in host and not may_be_allowed(host, profile.allowed_hosts):
            hosts = ", ".join(profile.allowed_hosts)
            raise ProfileError(
                f"{where}.{key}: whatever its templates stand for, the host is none of {hosts}: "
                f"mend {where}.allowed_hosts"
            )
        plain = _TEMPLATE.sub("x", url)
        plain = plain if "://" in plain else f"https://{plain}" if url.startswith("{") else plain
        resolved = resolved_url(plain, values={})
        if isinstance(resolved, Misconfigured):
            raise ProfileError(f"{where}.{key}: {_URL_FAULTS.get(resolved.code, resolved.code)}")


def _check_numbers(profile: ProviderProfile, where: str) -> None:
    """Check what types cannot say: finite times, and time-outs that leave room for an answer."""
    for key in ProviderProfile.__struct_fields__:
        value = getattr(profile, key)
        if isinstance(value, float) and not math.isfinite(value):
            raise ProfileError(f"{where}.{key}: expected a finite number")
    if not TIMEOUT_S_MIN <= profile.timeout_s <= TIMEOUT_S_MAX:
        raise ProfileError(f"{where}.timeout_s: expected {TIMEOUT_S_MIN:g} to {TIMEOUT_S_MAX:g}")
    if profile.connect_timeout_s > TIMEOUT_S_MAX:
        raise ProfileError(f"{where}.connect_timeout_s: expected at most {TIMEOUT_S_MAX:g}")


def _check_names(profile: ProviderProfile, where: str) -> None:
    """Check that nothing in the profile stands where a secret or the request's frame belongs."""
    for name in profile.extra_parameters:
        if name.lower() in _NOT_PARAMETERS:
            raise ProfileError(f"{where}.extra_parameters: {name} is not for a profile to set")
    for name in profile.extra_headers:
        if name.lower() in _NOT_HEADERS:
            raise ProfileError(f"{where}.extra_headers: {name} is not for a profile to set")
    if _ALGORITHM.fullmatch(profile.assertion_algorithm) is None:
        raise ProfileError(
            f"{where}.assertion_algorithm: expected RS, PS or ES with 256, 384 or 512"
        )


def _check_rule(rule: ErrorRule, where: str) -> None:
    if rule.status is None and rule.code is None and rule.pattern is None:
        raise ProfileError(f"{where}: status, code or pattern is needed")
    if rule.pattern is None:
        return
    if len(rule.pattern) > PATTERN_CHARS_MAX:
        raise ProfileError(f"{where}.pattern: at most {PATTERN_CHARS_MAX} characters")
    try:
        re.compile(rule.pattern)
    except re.error as error:
        raise ProfileError(f"{where}.pattern: {error.msg}") from None


def _check_secret_keys(profile: ProviderProfile, section: Mapping[str, Any], where: str) -> None:
    """Check that the files named are those that the way of authenticating needs, and no others."""
    if "client_secret_file" in section and "client_secret_files" in section:
        raise ProfileError(f"{where}: one of client_secret_file and client_secret_files")
    count = len(_secret_files(section, where))
    has_key = section.get("private_key_file") is not None
    match profile.client_auth:
        case ClientAuth.CLIENT_SECRET_BASIC | ClientAuth.CLIENT_SECRET_POST:
            wants = (True, False)
        case ClientAuth.PRIVATE_KEY_JWT:
            wants = (False, True)
        case ClientAuth.NONE:
            wants = (False, False)
    for name, wanted, given in (
        ("client_secret_file", wants[0], count > 0),
        ("private_key_file", wants[1], has_key),
    ):
        if wanted and not given:
            raise ProfileError(f"{where}.{name}: needed for {profile.client_auth}")
        if given and not wanted:
            raise ProfileError(f"{where}.{name}: of no use with {profile.client_auth}")


def _secret_files(section: Mapping[str, Any], where: str = "") -> tuple[Path, ...]:
    """Return the files of the client's secrets, in their order."""
    if "client_secret_file" in section:
        return (_path(section["client_secret_file"], f"{where}.client_secret_file"),)
    if "client_secret_files" not in section:
        return ()
    key = f"{where}.client_secret_files"
    files = section["client_secret_files"]
    if not isinstance(files, list) or not 1 <= len(files) <= SECRET_FILES_MAX:
        raise ProfileError(f"{key}: expected an array of one or two paths")
    return tuple(_path(file, f"{key}[{index}]") for index, file in enumerate(files))


def _path(value: object, where: str) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ProfileError(f"{where}: expected a path")
    return located(Path(value))


def _secrets_of(profile: ProviderProfile, section: Mapping[str, Any]) -> ProviderSecrets:
    """Read the files that a checked section names."""
    where = f"providers.{profile.slug}"
    key = "client_secret_file" if "client_secret_file" in section else "client_secret_files"
    files = _secret_files(section, where)
    private_key = None
    if "private_key_file" in section:
        name = f"{where}.private_key_file"
        file = _path(section["private_key_file"], name)
        private_key = _read(file, name)
        fault = fault_of_key(private_key.reveal(), profile.assertion_algorithm)
        if fault is not None:
            raise ProfileError(f"{name}: {file}: {fault}")
    return ProviderSecrets(
        client_secrets=tuple(_read(file, f"{where}.{key}") for file in files),
        private_key=private_key,
    )


def _read(file: Path, where: str) -> Secret:
    text = secret_of(file, where)
    if not text:
        raise ProfileError(f"{where}: {file}: empty")
    return Secret(text.encode())
