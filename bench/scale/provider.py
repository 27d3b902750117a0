"""The fake provider as a process of its own, and the configuration of a daemon that asks it."""

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import msgspec

from bench.daemon import ROOT
from runtime.fake_provider.clients import DEFAULT_CLIENT
from runtime.fake_provider.stats import Stats

LIFETIME_S = 86_400
"""How long its access tokens live: nobody is due twice in a run."""
DELAY_S = 0.02
MAX_CONCURRENCY = 32
MARGIN_FRACTION = 0.5
SLUGS = {"bench-idle": 300, "bench-burst": 1, "bench-even": 40, "bench-soon": 4}
"""Names of the same provider, each with another ``margin_s``: a token is refreshed so long before
its end, or up to half as much again."""


class Provider(NamedTuple):
    """A running provider."""

    port: int
    grants: list[tuple[str, str]]
    """Access and refresh tokens that it has granted."""
    pid: int

    def stats(self) -> Stats:
        """Return what it has counted."""
        with urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=30) as answer:
            return msgspec.json.decode(answer.read(), type=Stats)


def free_port() -> int:
    """Return a port on which nobody listens now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@contextlib.contextmanager
def provider_process(*, grants: int, port: int) -> Generator[Provider]:
    """Yield a provider that rotates strictly and has made so many grants; then end it."""
    quirks = {"lifetime_s": LIFETIME_S, "delay_before_s": DELAY_S}
    command = (
        *(sys.executable, "-m", "runtime", "fake-provider"),
        *("--port", str(port), "--grants", str(grants)),
        *(part for name, value in quirks.items() for part in ("--quirk", f"{name}={value}")),
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            made = [json.loads(process.stdout.readline()) for _ in range(grants)]
            ready = process.stderr.readline().decode()
            if not ready.startswith("ready "):
                raise SystemExit(f"the provider did not start: {ready}")
            tokens = [(one["access_token"], one["refresh_token"]) for one in made]
            yield Provider(port, tokens, process.pid)
        finally:
            process.terminate()


def write_config(folder: Path, *, port: int) -> Path:
    """Write the configuration of a daemon that knows the provider by each of ``SLUGS``."""
    secret, config = folder / "client-secret", folder / "refreshd.toml"
    secret.touch(mode=0o600)
    secret.write_text(DEFAULT_CLIENT.client_secrets[0])
    config.write_text(
        "".join(
            f"[providers.{slug}]\n"
            f'token_endpoint = "http://127.0.0.1:{port}/token"\n'
            f'client_id = "{DEFAULT_CLIENT.client_id}"\n'
            f'client_secret_file = "{secret}"\n'
            f'reuse_policy = "none"\n'
            f"max_concurrency = {MAX_CONCURRENCY}\n"
            f"margin_s = {margin_s}\n"
            f"margin_fraction = {MARGIN_FRACTION}\n"
            for slug, margin_s in SLUGS.items()
        )
    )
    return config
