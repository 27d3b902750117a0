"""``refreshd doctor``: looks at everything that operators get wrong, and says how to mend it."""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from cyclopts import App

from domain.profile import UNKNOWN_REUSE
from domain.result import Failure, Success
from runtime.cli.asking import (
    EXIT_ERROR,
    Asking,
    CommandError,
    UnreachedError,
    run_linked,
    show_value,
)
from runtime.cli.client import CommandClient
from runtime.cli.findings import Finding, State, of_status, some
from runtime.cli.salvaged import salvaged
from runtime.cli.tables import cell, show_named
from runtime.config import Config
from runtime.data_folder import KEYRING_FILE
from runtime.ledger.sealing import KeyringError, open_keyring
from runtime.logs import configure_logs
from runtime.nats.errors import LinkError
from runtime.nats.link import NatsLink
from runtime.private import ExposedError, refuse_if_changeable
from runtime.provider.profiles import load_profiles
from runtime.provider.secret_files import ConfigError

_HERE = Asking()
_PUBLIC = ("ca_file", "cert_file")


def add_doctor(app: App) -> None:
    """Make the verb known to the command line."""
    app.command(doctor)


def doctor(*, asking: Asking = _HERE) -> None:
    """Look at daemon, NATS, clocks, keys, disk and profiles; say what is wrong and its mend.

    What files say is of this machine, and the rest of the member that answers. Exit 1: something
    is a problem.
    """
    configure_logs(level="error", as_json=False)
    findings = _looked_at(asking)
    value = [msgspec.to_builtins(one) for one in findings]
    show_value(asking, value, lambda _: show_findings(findings))
    problems = sum(one.state is State.PROBLEM for one in findings)
    if problems:
        raise CommandError(f"{problems} problem{'s' * (problems > 1)} found", EXIT_ERROR)


def show_findings(findings: Sequence[Finding]) -> str:
    """Return a line a finding, with its mend below."""
    width = max(len(one.check) for one in findings)
    lines: list[tuple[str, str]] = []
    for one in findings:
        lines.append((f"{one.state:<7}  {one.check:<{width}}", cell(one.text)))
        if one.mend is not None:
            lines.append(("", f"-> {cell(one.mend)}"))
    return show_named(lines)


def _looked_at(asking: Asking) -> list[Finding]:
    try:
        settings = asking.settings()
    except ConfigError as error:
        return _beside_faults(asking, error)
    here = [*_profiles(settings), *_secrets(settings), *_files(settings, asking.folder())]
    return [*_daemon(asking, settings), *here]


def _beside_faults(asking: Asking, error: ConfigError) -> list[Finding]:
    """Return what is wrong with the configuration, and what can be told without what is wrong."""
    file = asking.file()
    config, lost, is_read = salvaged(file, environment=os.environ, nats_url=asking.nats)
    every = "`refreshd check`" if file is None else f"`refreshd check {file}`"
    mend = f"correct it: {every} tells all faults, docs/configuration.md has every key"
    found = [Finding("configuration", State.PROBLEM, str(error), mend)]
    if lost.isdisjoint({"nats", "service"}) or asking.nats is not None:
        found += _daemon(asking, config)
    else:
        mend = "correct that first, or say where: --nats URL"
        text = "not asked: where it is cannot be told from this configuration"
        found.append(Finding("daemon", State.WARNING, text, mend))
    if is_read and "providers" not in lost:
        found += [*_profiles(config), *_secrets(config)]
    return found if "keys" in lost else [*found, *_files(config, asking.folder())]


def _daemon(asking: Asking, settings: Config) -> list[Finding]:
    """Return what the daemon that answers tells, or why none does."""

    async def status(link: NatsLink, settings: Config) -> Success[object] | Failure:
        prefix = settings.service.prefix
        return await CommandClient(link, prefix=prefix, timeout_s=asking.timeout_s).call("status")

    try:
        answer = run_linked(asking, status, settings=settings)
    except UnreachedError as error:
        return [Finding("daemon", State.PROBLEM, error.text, error.mend)]
    except (CommandError, ConfigError, LinkError) as error:
        mend = "see that --config, --data-dir or --nats say where it is, and as whom it is asked"
        return [Finding("daemon", State.PROBLEM, str(error), mend)]
    match answer:
        case Failure(message=message):
            return [Finding("daemon", State.PROBLEM, message, "see the daemon's log")]
        case Success(value):
            return [*of_status(msgspec.convert(value, dict))]


def _profiles(settings: Config) -> Iterator[Finding]:
    """Yield how the profiles of this configuration read, with their files of secrets."""
    check = "profiles"
    try:
        profiles = load_profiles(settings.providers)
    except ConfigError as error:
        mend = "correct it: docs/providers.md has every field"
        yield Finding(check, State.PROBLEM, str(error), mend)
        return
    if not settings.providers:
        yield Finding(
            check,
            State.WARNING,
            "this configuration has no [providers]: without one no token is refreshed",
            "name the daemon's with --config, or see `refreshd provider list`",
        )
        return
    guessed = [
        slug
        for slug in sorted(settings.providers)
        if (profile := profiles.get(slug)) and profile.reuse_policy == UNKNOWN_REUSE
    ]
    if guessed:
        yield Finding(
            check,
            State.WARNING,
            f"reuse_policy of {some(guessed)} is unknown: after a lost answer the worst is assumed",
            "say none, grace:<seconds> or non_rotating, as the provider has it",
        )
    else:
        yield Finding(check, State.OK, f"{len(settings.providers)} configured, and all are sound")


def _secrets(settings: Config) -> Iterator[Finding]:
    """Yield which files of secrets others can read: none of them is refused for that."""
    exposed: list[str] = []
    for slug, section in sorted(settings.providers.items()):
        for key, value in sorted(section.items()):
            files = value if isinstance(value, list) else [value]
            is_secret = key.endswith(("_file", "_files")) and key not in _PUBLIC
            for file in files if is_secret else []:
                with contextlib.suppress(OSError):
                    if stat.S_IMODE(Path(str(file)).stat().st_mode) & 0o077:
                        exposed.append(f"providers.{slug}.{key}: {file}")
    if exposed:
        mend = "chmod 0600, where it is not given so by a container's secrets"
        yield Finding("secrets", State.WARNING, f"others can read {some(exposed)}", mend)


def _files(settings: Config, folder: Path) -> Iterator[Finding]:
    """Yield how the keyring and the data folder of this machine are."""
    keyring = settings.keys.file or folder / KEYRING_FILE
    if keyring.exists() or settings.keys.file is not None:
        try:
            ids = sorted(open_keyring(keyring, create=False).ids)
        except KeyringError as error:
            mend = "put the keyring there, readable by the daemon's user alone"
            yield Finding("keyring", State.PROBLEM, str(error), mend)
        else:
            text = f"{keyring} is private and has {len(ids)} key{'s' * (len(ids) > 1)}"
            yield Finding("keyring", State.OK, text)
    if folder.exists():
        try:
            refuse_if_changeable(folder)
        except (ExposedError, OSError) as error:
            mend = "let nobody but the daemon's user change it"
            yield Finding("data folder", State.PROBLEM, str(error), mend)
        else:
            yield Finding("data folder", State.OK, f"{folder} is the daemon's alone to change")
