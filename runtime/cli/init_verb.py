"""``refreshd init``: a configuration to begin with, a keyring, a context for the ``nats`` CLI."""

import os
from pathlib import Path

from runtime.cli.asking import Place
from runtime.data_folder import KEYRING_FILE, make_data_folder
from runtime.ledger.sealing import open_keyring
from runtime.nats.embedded import CONTEXT_FILE

CONFIG_FILE = "refreshd.toml"
_HERE = Place()

TEMPLATE = """\
# refreshd's configuration. What is commented out is the default, or an example.
# All settings: docs/configuration.md. `refreshd check FILE` finds every mistake,
# `refreshd check FILE --show` tells what holds and where it comes from.
# After a change: kill -HUP, or systemctl reload refreshd.

[nats]
# Absent: refreshd starts a nats-server of its own, in its data folder.
# url = "nats://nats-1:4222,nats://nats-2:4222,nats://nats-3:4222"
# creds_file = "/etc/refreshd/refreshd.creds"
# ca_file = "/etc/refreshd/ca.pem"
# replicas = 3

[keys]
# What seals the tokens. Absent: keyring.json in the data folder. Back it up apart
# from the data: without it nobody can open what is stored.
# file = "/etc/refreshd/keyring.json"

[service]
# How long a stop may take. Keep it below what the platform allows.
# drain_grace_s = 25.0

[http]
# Health, metrics and the page, read-only and without a login: on loopback unless
# you say otherwise; "" for nowhere.
# listen = "127.0.0.1:9377"

[log]
# level = "info"
# format = "auto"

# One section a provider; its name is the provider_slug. `refreshd provider list`
# shows those that need a client alone, docs/providers.md has every field.
# A secret comes by a file that nobody else may change: chmod 0600.
#
# [providers.google]
# client_id = "..."
# client_secret_file = "/etc/refreshd/google-secret"
#
# [providers.of-your-own]
# token_endpoint = "https://login.example.com/oauth/token"
# client_id = "..."
# client_secret_file = "/etc/refreshd/own-secret"
# client_auth = "client_secret_basic"
# max_concurrency = 16
"""


def init(folder: Path = Path(), *, place: Place = _HERE) -> None:
    """Write what a daemon begins with; what is there already is left as it is.

    A commented refreshd.toml; keyring.json in the data folder, for you alone to read; and a
    context, so that `nats --context refreshd service ls` works while the daemon runs.

    Parameters
    ----------
    folder
        Where refreshd.toml goes; the working directory without it.
    """
    config, data_dir = place.config or folder / CONFIG_FILE, place.folder()
    context = nats_context_file()
    make_data_folder(data_dir)
    rows = [("configuration", config, _written(config))]
    # Where a state is, a new key would hide that the one that sealed it is lost.
    is_new = not (data_dir / "nats").exists() and not (data_dir / KEYRING_FILE).exists()
    if is_new:
        open_keyring(data_dir / KEYRING_FILE, create=True)
    rows.append(("keyring", data_dir / KEYRING_FILE, _found(data_dir / KEYRING_FILE, is_new)))
    rows.append(("nats context", context, _linked(context, data_dir / CONTEXT_FILE)))
    for what, path, became in rows:
        print(f"{became:<8} {what:<14} {path}")
    data = "" if place.data_dir is None else f" --data-dir {data_dir}"
    print(f"\nNext: add your providers, then\n\n  refreshd check {config}{data}")
    print(f"  refreshd serve --config {config}{data}")


def nats_context_file() -> Path:
    """Return where the ``nats`` CLI looks for the context ``refreshd``."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "nats" / "context" / "refreshd.json"


def _written(config: Path) -> str:
    config.parent.mkdir(parents=True, exist_ok=True)
    try:
        with config.open("x") as file:
            file.write(TEMPLATE)
    except FileExistsError:
        return "kept"
    return "written"


def _found(keyring: Path, is_new: bool) -> str:  # noqa: FBT001
    if is_new:
        return "written"
    return "kept" if keyring.exists() else "MISSING"


def _linked(link: Path, context: Path) -> str:
    """Point to the context that the daemon writes when it starts."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() or link.exists():
        return "kept"
    link.symlink_to(context.absolute())
    return "written"
