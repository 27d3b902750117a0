"""Configuration: flags over environment over file over defaults, and errors that name the path.

The file is TOML; an environment variable ``REFRESHD_<SECTION>_<KEY>`` sets one key. An
unknown key, in the file or in the environment, is an error. Secrets come by ``*_file`` keys.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

import msgspec
from msgspec import Meta

from actors.world import Limits, Seconds
from runtime.cluster.site import ClusterConfig
from runtime.gateway.service import ServiceLimits
from runtime.gateway.subjects import is_prefix
from runtime.ledger.limits import LedgerLimits
from runtime.ledger.subjects import DEFAULT_PREFIX
from runtime.nats.embedded import START_TIMEOUT_S
from runtime.nats.embedded_keeper import RestartsMax
from runtime.nats.login import LinkLimits, Login, LoginError
from runtime.nats.reply_subjects import INBOX_PREFIXES
from runtime.provider.choices import with_choices
from runtime.provider.secret_files import ConfigError, check_secret, located, secret_of
from runtime.toml_text import NotTomlError, settings_of
from runtime.web.address import HttpConfig

ENVIRONMENT_PREFIX = "REFRESHD_"
_NOT_SETTINGS = re.compile(
    r"REFRESHD_(CONFIG|DATA_DIR|PORT|PORT_.*|SERVICE_HOST|SERVICE_PORT|SERVICE_PORT_.*)"
)
"""Two are read elsewhere; the others Kubernetes sets for a Service of this name."""
_HOUR_S = 3600

Positive = Annotated[int, Meta(ge=1)]


class NatsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where NATS is."""

    url: str | None = None
    """Of one server, or of several with commas between; None starts the embedded one."""
    creds_file: Path | None = None
    """JWT and seed of a user, as ``nsc`` writes them."""
    nkey_seed_file: Path | None = None
    """A user's seed, where the server knows its public key."""
    user: str | None = None
    """Whom the server knows by a password."""
    password_file: Path | None = None
    """The password of ``user``."""
    token_file: Path | None = None
    """What the server asks for in place of a user."""
    ca_file: Path | None = None
    """Trusted in place of the system's authorities."""
    cert_file: Path | None = None
    """Who we are by TLS."""
    key_file: Path | None = None
    """None where ``cert_file`` holds the key, too."""
    monitoring_url: str | None = None
    """The external server's HTTP monitoring address, to check that it syncs each write."""
    inbox_prefix: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z")] | None = (
        None
    )
    """Where answers come in; None: ``_INBOX_refreshd`` for the daemon, ``_INBOX`` for the verbs."""
    replicas: Annotated[int, Meta(ge=1, le=5)] = 1
    """On how many servers each stream is stored; applied when it is made."""
    server_bin: Path | None = None
    """The embedded server's program; None looks beside Python and on the PATH."""
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    """The embedded server's port; None keeps the last one, or takes a free one."""
    start_timeout_s: Seconds = START_TIMEOUT_S
    """How long the embedded server may take to restore its streams until it listens."""
    free_bytes_min: Annotated[int, Meta(ge=0)] = 64 * 1024 * 1024
    """What the embedded server's file system keeps in reserve: below it no provider is asked."""
    write_silent_s: Seconds = 5.0
    """How long the embedded server may leave writes unanswered before it is restarted."""
    restarts_max: RestartsMax = 5
    """How often the embedded server may die within ``restarts_period_s``."""
    restarts_period_s: Seconds = 600.0
    """More than ``restarts_max`` deaths within it end the daemon."""
    link: LinkLimits = LinkLimits()


class KeysConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the keyring is."""

    file: Path | None = None
    """None keeps it in the data folder."""


class StateConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How connections are stored."""

    partitions: Annotated[int, Meta(ge=1, le=64)] | None = None
    """Fixed by the first start (4); another value later is refused."""
    limits: LedgerLimits = msgspec.field(default_factory=LedgerLimits)


class EventsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long events are kept; applied when the stream is made."""

    age_s_max: Annotated[int, Meta(ge=60)] = 30 * 24 * _HOUR_S
    bytes_max: Annotated[int, Meta(ge=-1)] = -1
    """-1 for no bound."""
    duplicate_window_s: Annotated[int, Meta(ge=1)] = 600
    """How long a NATS client of yours may lean on ``Nats-Msg-Id``; the daemon does not."""


class ServiceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The endpoints."""

    prefix: str = DEFAULT_PREFIX
    """What subjects begin with; each prefix is a state of its own."""
    reply_prefixes: tuple[Annotated[str, Meta(pattern=r"\A[^\s*>$.][^\s*>]*\Z")], ...] = (
        INBOX_PREFIXES
    )
    """How a request's reply subject must begin to be answered."""
    drain_grace_s: Seconds = 25.0
    """How long a stop takes at most, from SIGTERM to the end of the process."""
    limits: ServiceLimits = msgspec.field(default_factory=ServiceLimits)


class LogConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The daemon's log on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text"] = "auto"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set."""

    nats: NatsConfig = NatsConfig()
    keys: KeysConfig = KeysConfig()
    state: StateConfig = msgspec.field(default_factory=StateConfig)
    events: EventsConfig = EventsConfig()
    service: ServiceConfig = msgspec.field(default_factory=ServiceConfig)
    cluster: ClusterConfig = ClusterConfig()
    actors: Limits = msgspec.field(default_factory=Limits)
    http: HttpConfig = HttpConfig()
    log: LogConfig = LogConfig()
    providers: dict[str, dict[str, Any]] = {}
    """One section a provider; ``runtime.provider.profiles`` reads them."""

    def login(self) -> Login:
        """Return how to reach the external server.

        Raises:
            ConfigError: A ``*_file`` cannot be read or used, or the URL is none.
        """
        nats = self.nats
        assert nats.url is not None
        named = ("creds_file", "nkey_seed_file", "key_file", "cert_file", "ca_file")
        files = {key: file and located(file) for key in named if (file := getattr(nats, key))}
        for key, file in files.items():
            if key != "ca_file" and (key != "cert_file" or "key_file" not in files):
                check_secret(file, f"nats.{key}")
        login = Login(
            url=nats.url,
            user=nats.user,
            password=secret_of(nats.password_file, "nats.password_file"),
            token=secret_of(nats.token_file, "nats.token_file"),
            **files,
        )
        try:
            _ = (login.servers, login.options())
        except LoginError as error:
            raise ConfigError(str(error)) from None
        return login


def default_data_dir(environment: Mapping[str, str]) -> Path:
    """Return ``$REFRESHD_DATA_DIR``, else ``$XDG_STATE_HOME/refreshd``, else the usual place."""
    if given := environment.get("REFRESHD_DATA_DIR"):
        return Path(given)
    state_home = environment.get("XDG_STATE_HOME")
    home = Path(state_home) if state_home else Path.home() / ".local" / "state"
    return home / "refreshd"


def load_config(
    file: Path | None, *, environment: Mapping[str, str] | None = None, nats_url: str | None = None
) -> Config:
    """Return the configuration.

    Args:
        file: None takes ``$REFRESHD_CONFIG``, or no file at all.
        environment: None takes the process's.
        nats_url: The flag ``--nats``; over all else.

    Raises:
        ConfigError: The file cannot be read, or something in it or in the environment is wrong.
    """
    environment = os.environ if environment is None else environment
    file = file or config_file(environment)
    settings = {} if file is None else _read_toml(file)
    _convert(settings, Config, where=str(file))
    return config_of(settings, environment, nats_url)


def config_of(
    settings: dict[str, Any], environment: Mapping[str, str], nats_url: str | None
) -> Config:
    """Return the configuration that a file's settings, the variables and ``--nats`` come to.

    Args:
        settings: Changed by what is over them.
        environment: Which variables there are.
        nats_url: None where the flag is not given.

    Raises:
        ConfigError: Something in it or in the environment is wrong.
    """
    for _, apply in variables_of(environment):
        apply(settings)
    if nats_url is not None:
        settings["nats"] = {**settings.get("nats", {}), "url": nats_url}
    config: Config = _convert(settings, Config, where="configuration")
    if not is_prefix(config.service.prefix):
        raise ConfigError(
            "service.prefix: plain tokens of letters, digits, - and _, at most 100 characters"
        )
    return config


def config_file(environment: Mapping[str, str]) -> Path | None:
    """Return ``$REFRESHD_CONFIG``, if it is set."""
    given = environment.get("REFRESHD_CONFIG")
    return Path(given) if given else None


def variables_of(
    environment: Mapping[str, str],
) -> Iterator[tuple[str, Callable[[dict[str, Any]], None]]]:
    """Yield each variable that is a setting, and how to apply it: that may raise ConfigError."""
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX) and not _NOT_SETTINGS.fullmatch(name):
            yield name, partial(_apply_variable, name=name, value=environment[name])


def convert_setting(settings: dict[str, Any], to: type[msgspec.Struct]) -> None:
    """Return where a section of the file can be used.

    Raises:
        ConfigError: It cannot; msgspec's message names the path within it.
    """
    try:
        msgspec.convert(settings, to, dec_hook=_from_text)
    except msgspec.ValidationError as error:
        raise ConfigError(with_choices(str(error), to)) from None


def _apply_variable(settings: dict[str, Any], name: str, value: str) -> None:
    """Set one key from ``REFRESHD_<SECTION>_<KEY>``, or ``..._LIMITS_<KEY>`` one level deeper."""
    words = name.removeprefix(ENVIRONMENT_PREFIX).lower()
    section, _, key = words.partition("_")
    section_type = Config.__annotations__.get(section)
    if section_type is None or section == "providers":
        raise ConfigError(f"environment variable {name}: no such section")
    target = settings.setdefault(section, {})
    for nested in ("limits", "link"):
        if key.startswith(f"{nested}_") and nested in section_type.__annotations__:
            section_type, key = section_type.__annotations__[nested], key[len(nested) + 1 :]
            target = target.setdefault(nested, {})
    if key not in section_type.__annotations__:
        raise ConfigError(f"environment variable {name}: no such key")
    to = section_type.__annotations__[key]
    given = value.split(",") if get_origin(to) is tuple else value
    try:
        target[key] = msgspec.convert(given, to, strict=False, dec_hook=_from_text)
    except msgspec.ValidationError as error:
        text = with_choices(str(error), section_type.__annotations__[key])
        raise ConfigError(f"environment variable {name}: {text}") from None


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return settings_of(file)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except NotTomlError as error:
        raise ConfigError(f"{file}:{error}") from None


def _convert(settings: dict[str, Any], to: type[Config], *, where: str) -> Config:
    """Check ``settings`` and return them typed; msgspec's message names the path."""
    try:
        return msgspec.convert(settings, to, dec_hook=_from_text)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {with_choices(str(error), to)}") from None


def _from_text(to: type, value: object) -> object:
    """Return a path from its text: the one type of a key that msgspec does not know."""
    if to is Path and isinstance(value, str | Path):
        return Path(value)
    raise TypeError("Expected a path")
