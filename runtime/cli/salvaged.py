"""What can be used of a configuration that cannot be used as a whole, for who looks for faults."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from runtime.config import Config, config_of, variables_of
from runtime.provider.secret_files import ConfigError
from runtime.toml_text import NotTomlError, settings_of


class Salvaged(NamedTuple):
    """A configuration without what is wrong in it."""

    config: Config
    lost: frozenset[str]
    """The sections that are left out."""
    is_read: bool
    """Whether the file could be read at all."""


def salvaged(
    file: Path | None, *, environment: Mapping[str, str], nats_url: str | None
) -> Salvaged:
    """Return each section, and each variable, that is right by itself. Never raises.

    Args:
        file: None: there is none.
        environment: Of the process.
        nats_url: The flag ``--nats``.
    """
    settings: dict[str, Any] = {}
    is_read = True
    if file is not None:
        try:
            settings = settings_of(file)
        except (OSError, NotTomlError):
            is_read = False
    kept = {name: section for name, section in settings.items() if _is_right({name: section}, {})}
    names = [name for name, _ in variables_of(environment)]
    right = {name: environment[name] for name in names if _is_right({}, {name: environment[name]})}
    try:
        config = config_of(kept, right, nats_url)
    except ConfigError:
        config = Config()
    return Salvaged(config, frozenset(settings.keys() - kept.keys()), is_read)


def _is_right(settings: dict[str, Any], environment: Mapping[str, str]) -> bool:
    try:
        config_of(settings, environment, None)
    except ConfigError:
        return False
    return True
