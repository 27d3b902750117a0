"""Whoever names no configuration and has one lying here most likely meant it to be read."""

from pathlib import Path

_NAME = "refreshd.toml"
UNREAD = "no configuration file was read (--config FILE, $REFRESHD_CONFIG)"


def overlooked() -> Path | None:
    """Return the configuration in the working directory that ``refreshd init`` would have made."""
    here = Path(_NAME)
    return here if here.exists() else None
