"""Secrets come in files of their own, never in the configuration."""

from pathlib import Path


class ConfigError(Exception):
    """The configuration cannot be used; the text names where and which key."""


def secret_of(file: Path | None, key: str) -> str | None:
    """Return the text of a secret file, without the white space around it.

    Raises:
        ConfigError: It cannot be read; the text names ``key`` and the file, and quotes nothing.
    """
    if file is None:
        return None
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigError(f"{key}: {file}: {reason}") from None
