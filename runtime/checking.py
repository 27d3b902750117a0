"""Everything that is wrong with a configuration, each fault with its place and what mends it.

Loading stops at the first fault, since it is to be short in a log; whoever has just written the
file wants to know of all. Nothing here quotes a secret.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import structs

from runtime.config import Config, config_file, convert_setting, load_config, variables_of
from runtime.data_folder import KEYRING_FILE
from runtime.ledger.sealing import Keyring, KeyringError, open_keyring
from runtime.provider.held_profiles import Configured, Profiles
from runtime.provider.profiles import KEYS, configured
from runtime.provider.route import check_environment
from runtime.provider.secret_files import ConfigError, located
from runtime.toml_text import NotTomlError, settings_of

_PLACED = re.compile(r"(?P<path>[a-z_]+(\.[A-Za-z0-9_-]+|\[[0-9]+\])*): (?P<message>.*)", re.DOTALL)
_AT = re.compile(r"(?P<message>.*?)( - at `\$\.?(?P<path>[^`]*)`)?", re.DOTALL)
_SCHEMES = ("nats", "tls", "ws", "wss")
_NEEDED = frozenset(
    {"token_endpoint", "issuer", "client_id", "client_auth", "profile"}
    | {"client_secret_file", "client_secret_files", "private_key_file"}
)
"""Without one of these a section has other faults than it has with it."""


class Fault(NamedTuple):
    """One thing that is wrong."""

    file: str
    """The file, or ``environment`` for a variable; ``configuration`` where there is no file."""
    path: str
    """The key, with its sections; empty: the file as a whole."""
    message: str

    def __str__(self) -> str:
        """Tell it in one line."""
        return f"{self.file}:{self.path}: {self.message}" if self.path else self.said

    @property
    def said(self) -> str:
        """Tell it where there is no path."""
        return f"{self.file}: {self.message}"


class Checked(NamedTuple):
    """A configuration that can be used."""

    config: Config
    profiles: Profiles
    keyring: Keyring | None
    """None where there is none yet: the first start makes it."""
    key_file: Path


class FaultsError(ConfigError):
    """A configuration cannot be used; ``faults`` has at least one."""

    def __init__(self, faults: list[Fault]) -> None:
        """Keep them; the text is a line for each."""
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


def check(
    file: Path | None, data_dir: Path, *, environment: Mapping[str, str], nats_url: str | None
) -> Checked:
    """Return a configuration with all that it names, read.

    Args:
        file: None takes ``$REFRESHD_CONFIG``, or no file at all.
        data_dir: Where the keyring is unless ``keys.file`` says otherwise.
        environment: Of the process.
        nats_url: The flag ``--nats``.

    Raises:
        FaultsError: It cannot be used; it has every fault that was found.
    """
    file = file or config_file(environment)
    where = "configuration" if file is None else str(file)
    settings = _read(file)
    faults = [*_setting_faults(settings, Config, "", where), *_variable_faults(environment)]
    profiles: dict[str, Configured] = {}
    for slug, section in _sections(settings):
        found = _provider(slug, section, where)
        if isinstance(found, Configured):
            profiles[slug] = found
        else:
            faults += found
    try:
        config = load_config(file, environment=environment, nats_url=nats_url)
    except ConfigError as error:
        raise FaultsError(faults or [_fault(error, where)]) from None
    if config.providers != settings.get("providers", {}):
        faults.append(Fault(where, "", "it was changed while it was read: try again"))
    key_file = located(config.keys.file) if config.keys.file else data_dir / KEYRING_FILE
    keyring = _keyring(key_file, faults, where, is_named=config.keys.file is not None)
    for look in (check_environment, partial(_check_servers, config)):
        try:
            look()
        except ConfigError as error:
            faults.append(_fault(error, where))
    if faults:
        raise FaultsError(faults)
    return Checked(config, Profiles(profiles), keyring, key_file)


def _read(file: Path | None) -> dict[str, Any]:
    """Return what a file holds.

    Raises:
        FaultsError: It cannot be read, or is no TOML.
    """
    try:
        return {} if file is None else settings_of(file)
    except OSError as error:
        raise FaultsError([Fault(str(file), "", str(error.strerror))]) from None
    except NotTomlError as error:
        raise FaultsError([Fault(str(file), error.place, error.message)]) from None


def _setting_faults(
    settings: Mapping[str, Any], to: type[msgspec.Struct], path: str, where: str
) -> Iterator[Fault]:
    """Yield what is wrong with each key of a section, those of its sections with it."""
    fields = {field.name: field.type for field in structs.fields(to)}
    for key, value in settings.items():
        here = f"{path}{key}"
        section = fields.get(key)
        inner = _struct_of(section)
        if section is None:
            kind = "section" if not path else "key"
            yield Fault(where, here, f"no such {kind}{_meant(key, fields)}")
        elif inner is not None and isinstance(value, dict):
            yield from _setting_faults(value, inner, f"{here}.", where)
        elif here != "providers" or not isinstance(value, dict):
            try:
                convert_setting({key: value}, to)
            except ConfigError as error:
                yield Fault(where, here, _AT.fullmatch(str(error))["message"])  # type: ignore[index]


def _struct_of(kind: Any) -> type[msgspec.Struct] | None:  # noqa: ANN401 -- an annotation
    return kind if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else None


def _variable_faults(environment: Mapping[str, str]) -> Iterator[Fault]:
    """Yield what is wrong with each variable."""
    for name, apply in variables_of(environment):
        try:
            apply({})
        except ConfigError as error:
            message = str(error).removeprefix(f"environment variable {name}: ")
            yield Fault("environment", name, message)


def _sections(settings: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the providers' sections that are tables."""
    sections = settings.get("providers")
    for slug, section in sections.items() if isinstance(sections, dict) else ():
        if isinstance(section, dict):
            yield slug, section


def _provider(slug: str, section: dict[str, Any], where: str) -> Configured | list[Fault]:
    """Return a provider, or the faults of its section."""
    faults: list[Fault] = []
    left = dict(section)
    while True:
        try:
            found = configured(slug, left)
        except ConfigError as error:
            fault = _fault(error, where)
            if not fault.path and fault.message.startswith(f"providers.{slug}: "):
                fault = Fault(where, *fault.message.split(": ", 1))
            key = fault.path.removeprefix(f"providers.{slug}.").split(".")[0].split("[")[0]
            if fault.message == "no such key":
                fault = fault._replace(message=f"no such key{_meant(key, KEYS)}")
            faults.append(fault)
            if key in _NEEDED or left.pop(key, None) is None:
                return faults
        else:
            return faults or found


def _check_servers(config: Config) -> None:
    """Return where there is an address to connect to, and what it takes to be let in.

    Raises:
        ConfigError: A file cannot be used, or a server has no address.
    """
    if config.nats.url is None:
        return
    for server in config.login().servers:
        try:
            found = urlsplit(server if "://" in server else f"nats://{server}")
            is_one = found.scheme in _SCHEMES and bool(found.hostname) and found.port != 0
            is_one = is_one and not re.search(r"\s", server)
        except ValueError:
            is_one = False
        if not is_one:
            raise ConfigError(
                "nats.url: expected nats://host:port, or tls://, ws://, wss://; several with "
                "commas between"
            )


def _keyring(file: Path, faults: list[Fault], where: str, *, is_named: bool) -> Keyring | None:
    """Return the keyring; None where there is none yet, or a fault was added."""
    if not is_named and not file.exists():
        return None
    try:
        return open_keyring(file, create=False)
    except KeyringError as error:
        faults.append(Fault(where if is_named else str(file), "keys.file" * is_named, str(error)))
        return None


def _fault(error: ConfigError, where: str) -> Fault:
    """Return an error of loading as a fault."""
    text = str(error).removeprefix(f"{where}: ")
    if text.startswith("environment variable "):
        name, _, message = text.removeprefix("environment variable ").partition(": ")
        return Fault("environment", name, message)
    placed = _PLACED.fullmatch(text)
    return Fault(where, placed["path"], placed["message"]) if placed else Fault(where, "", text)


def _meant(key: str, known: Mapping[str, Any] | frozenset[str]) -> str:
    """Return what may have been meant by a key that there is not."""
    close = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
