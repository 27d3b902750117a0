"""``refreshd check``: what is wrong with a configuration, and what it comes to."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from runtime.checking import Checked, FaultsError, check
from runtime.cli.asking import EXIT_USAGE, Place, to_stderr
from runtime.config import Config, variables_of
from runtime.logs import configure_logs
from runtime.overlooked import UNREAD, overlooked
from runtime.provider.profiles import shipped_section
from runtime.toml_text import settings_of

_HERE = Place()
_USER = re.compile(r"(?<=://)[^/@,]*@")
_VALUES_HIDDEN = frozenset({"extra_headers", "extra_parameters"})
_COMMENT_AT = 44
_DEFAULT = "default"


def check_command(
    file: Path | None = None,
    *,
    show: Annotated[bool, Parameter(negative=())] = False,
    place: Place = _HERE,
) -> None:
    """Check a configuration and every file that it names; nothing is started or changed.

    Each fault is a line FILE:PATH: MESSAGE on stderr, and the exit code is 2; so it is where no
    file is named and a refreshd.toml lies in the working directory.

    Parameters
    ----------
    file
        The TOML file; --config and $REFRESHD_CONFIG without it.
    show
        Print the settings as TOML, each with where it comes from; secrets as ***.
    """
    configure_logs(level="warning", as_json=False)
    file = file or place.file()
    if file is None:
        _tell_unread()
    try:
        found = check(file, place.folder(), environment=os.environ, nats_url=place.nats)
    except FaultsError as error:
        for fault in error.faults:
            to_stderr(str(fault))
        raise SystemExit(EXIT_USAGE) from None
    print("\n".join(_shown(found, file, place.nats)) if show else _told(found))


def _tell_unread() -> None:
    """Say that no file is checked; end where one lies here, which most likely was meant."""
    if (here := overlooked()) is not None:
        to_stderr(f"{UNREAD}; there is a {here} here: `refreshd check {here}`")
        raise SystemExit(EXIT_USAGE)
    to_stderr(f"{UNREAD}: this is of the environment and the defaults alone")


def _told(found: Checked) -> str:
    providers = len(found.profiles)
    said = "1 provider" if providers == 1 else f"{providers} providers"
    keys = "made by the first start" if found.keyring is None else str(found.key_file)
    return f"ok: {said}; keyring: {keys}"


def _shown(found: Checked, file: Path | None, nats_url: str | None) -> Iterator[str]:
    """Yield the lines of a TOML document that holds the settings."""
    settings = {} if file is None else settings_of(file)
    origins = {path: str(file) for path in _paths(settings)}
    for name, apply in variables_of(os.environ):
        one: dict[str, Any] = {}
        apply(one)
        origins |= dict.fromkeys(_paths(one), f"${name}")
    if nats_url is not None:
        origins["nats.url"] = "--nats"
    yield from _section(found.config, "", origins)
    for profile in found.profiles:
        own = settings["providers"][profile.slug]
        name = own.get("profile", profile.slug)
        shipped = shipped_section(name)
        origin = dict.fromkeys(shipped, f"shipped: {name}") | dict.fromkeys(own, str(file))
        yield f"\n[providers.{profile.slug}]"
        for key, value in sorted({**shipped, **own}.items()):
            told = getattr(profile, key, value) if isinstance(value, dict) else value
            yield _line(key, told, origin[key])


def _paths(settings: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the path of every value."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"


def _section(struct: msgspec.Struct, path: str, origins: Mapping[str, str]) -> Iterator[str]:
    names = [name for name in struct.__struct_fields__ if name != "providers"]
    values = {name: getattr(struct, name) for name in names}
    plain = [name for name in names if not isinstance(values[name], msgspec.Struct)]
    if plain:
        yield f"[{path}]" if isinstance(struct, Config) or path == "nats" else f"\n[{path}]"
    for name in plain:
        yield _line(name, values[name], origins.get(f"{path}.{name}", _DEFAULT))
    for name in names:
        if name not in plain:
            yield from _section(values[name], f"{path}.{name}".lstrip("."), origins)


def _line(key: str, value: Any, origin: str) -> str:  # noqa: ANN401 -- any setting
    """Return a setting and where it comes from; one that is not set is a comment."""
    text = f"# {key} is not set" if value is None else f"{key} = {_toml(_hidden(key, value))}"
    return f"{text:<{_COMMENT_AT}} # {origin}"


def _hidden(key: str, value: Any) -> Any:  # noqa: ANN401
    """Return a value without what may be secret in it."""
    if key in _VALUES_HIDDEN and isinstance(value, Mapping):
        return dict.fromkeys(value, "***")
    return _USER.sub("***@", value) if isinstance(value, str) else value


def _toml(value: Any) -> str:  # noqa: ANN401
    """Return a value as TOML has it, in one line."""
    value = msgspec.to_builtins(value, enc_hook=str)
    if isinstance(value, dict):
        inner = ", ".join(
            f"{msgspec.json.encode(key).decode()} = {_toml(one)}"
            for key, one in value.items()
            if one is not None
        )
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return msgspec.json.encode(value).decode()
