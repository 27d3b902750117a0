"""``refreshd fake-provider``: the fake provider as a process of its own."""

import asyncio
import os
import signal
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec
import uvloop
from cyclopts import Parameter

from runtime.cli.asking import EXIT_ERROR, EXIT_USAGE, CommandError, to_stderr
from runtime.fake_provider.clients import DEFAULT_CLIENT, Client, ClientDesk
from runtime.fake_provider.quirks import Quirks, merged
from runtime.fake_provider.server import running_fake_provider


def fake_provider_command(
    *,
    port: int = 0,
    grants: int = 0,
    quirks: Path | None = None,
    quirk: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    client_id: str = DEFAULT_CLIENT.client_id,
    client_secret_file: Path | None = None,
    public_key_file: Path | None = None,
) -> None:
    """Run a test authorization server that misbehaves as asked, on loopback, until SIGTERM.

    Each grant that is created at the start is one JSON line on stdout, with its tokens.
    The quirks are described in docs/fake-provider.md.

    Parameters
    ----------
    port
        Where to listen; 0 is any free port.
    grants
        How many grants to create at the start.
    quirks
        A TOML or JSON file of quirks.
    quirk
        NAME=VALUE, over those of the file; may be repeated. VALUE is JSON, or else a text.
    client_id
        The client that may come.
    client_secret_file
        Its secrets, one a line; "fake-secret" without it, none at all if the file is empty.
    public_key_file
        PEM of its public key, for private_key_jwt.
    """
    asked = read_quirks(quirks, quirk)
    client = _read_client(client_id, client_secret_file, public_key_file)
    uvloop.run(_serve(asked, client, port=port, grants=grants))


def read_quirks(file: Path | None, pairs: tuple[str, ...] = ()) -> Quirks:
    """Return the quirks of a file, with single ones over them.

    Raises:
        CommandError: The file cannot be read, or a quirk is unknown or wrong; the text names it.
    """
    patch: dict[str, Any] = {} if file is None else _read_table(file)
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise CommandError(f"--quirk {pair}: expected NAME=VALUE", EXIT_USAGE)
        try:
            patch[name] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            patch[name] = text
    try:
        return merged(Quirks(), patch)
    except msgspec.ValidationError as error:
        raise CommandError(f"quirks: {error}", EXIT_USAGE) from None


async def _serve(quirks: Quirks, client: Client, *, port: int, grants: int) -> None:
    """Listen until the first signal; a second one ends the process at once."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(EXIT_ERROR)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        async with running_fake_provider(quirks=quirks, clients=(client,), port=port) as provider:
            for number in range(grants):
                issued = provider.create(f"user-{number + 1}")
                line = {
                    "grant": issued.grant_id,
                    "access_token": issued.access_token,
                    "refresh_token": issued.refresh_token,
                    "expires_at": issued.expires_at,
                }
                sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
            sys.stdout.flush()
            to_stderr(f"ready url={provider.url} client_id={client.client_id}")
            await stop.wait()
    except OSError as error:
        raise CommandError(f"port {port}: {error.strerror}") from None
    except OverflowError as error:
        raise CommandError(str(error), EXIT_USAGE) from None


def _read_client(client_id: str, secret_file: Path | None, key_file: Path | None) -> Client:
    """Return the client that the options describe.

    Raises:
        CommandError: A file cannot be read.
    """
    client = Client(client_id=client_id, client_secrets=DEFAULT_CLIENT.client_secrets)
    try:
        if secret_file is not None:
            secrets = tuple(secret_file.read_text().split())
            client = msgspec.structs.replace(client, client_secrets=secrets)
        if key_file is not None:
            client = msgspec.structs.replace(client, public_key=key_file.read_text())
        ClientDesk(()).put(client)
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}", EXIT_USAGE) from None
    except ValueError as error:
        raise CommandError(str(error), EXIT_USAGE) from None
    return client


def _read_table(file: Path) -> dict[str, Any]:
    """Return what is in a TOML file, or in a JSON file by its name.

    Raises:
        CommandError: It cannot be read.
    """
    try:
        text = file.read_text()
        if file.suffix == ".json":
            return msgspec.json.decode(text, type=dict[str, Any])
        return tomllib.loads(text)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}", EXIT_USAGE) from None
    except (ValueError, msgspec.DecodeError) as error:
        raise CommandError(f"{file}: {error}", EXIT_USAGE) from None
