"""Secrets come in files of their own, never in the configuration."""

import os
from pathlib import Path

from runtime.private import ExposedError, check_secret_file


class ConfigError(Exception):
    """The configuration cannot be used; the text names where and which key."""


def located(file: Path) -> Path:
    """Return where a file of the configuration is, as an absolute path.

    A relative path is one below ``$CREDENTIALS_DIRECTORY``, where systemd has put such a file, and
    else below the working directory.

    Source:
        systemd.exec(5), LoadCredential=.
    """
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    if given and not file.is_absolute() and (found := Path(given) / file).exists():
        return found.absolute()
    return file.absolute()


def secret_of(file: Path | None, key: str) -> str | None:
    """Return the text of a secret file, without the white space around it.

    Raises:
        ConfigError: It cannot be read, or others can change it; the text names ``key`` and the
            file, and quotes nothing.
    """
    if file is None:
        return None
    file = located(file)
    check_secret(file, key)
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigError(f"{key}: {file}: {reason}") from None


def check_secret(file: Path, key: str) -> None:
    """Check a secret file that somebody else reads; see ``check_secret_file``.

    Raises:
        ConfigError: It is not there, or others can change it.
    """
    try:
        check_secret_file(file)
    except OSError as error:
        raise ConfigError(f"{key}: {file}: {error.strerror}") from None
    except ExposedError as error:
        raise ConfigError(f"{key}: {error}") from None
