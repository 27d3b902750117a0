"""What a reader of a paper has already when he begins with it."""

import contextlib
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple

import pytest

from bench.peers.servers import CannotServeError
from tests.fakes.token_tables import NANGO_KEY, running_nango, running_table

_SERVED = """\
umask 077
export REFRESHD_DATA_DIR=$PWD/data REFRESHD_CONFIG=$PWD/refreshd.toml
touch refreshd.toml
refreshd serve 2> refreshd.log &
until grep -s '^ready' refreshd.log; do sleep 0.05; done
"""
_CONNECTED = """\
connect() {
  refreshd connect --provider-slug $1 --connection-id $2 --credentials-file - \
    --user-id 7f9c24e8-3b12-4f0a-9d56-1c2b3a4d5e6f \
    --provider-id 0b8f6c1e-5a7d-4c3b-8e2f-9a1b2c3d4e5f
}
"""
_ONE_STORED = f"""\
{_CONNECTED}{_SERVED}
echo '{{"credential_type": "api_key", "secret": {{"api_key": "of-a-user"}}}}' |
  connect fake c0ffee00-5a7d-4c3b-8e2f-9a1b2c3d4e5f
"""
_ONE_FAILS = f"""\
refreshd fake-provider --port 9400 --quirk canned=server_error_500 \
  --quirk 'headers={{"Retry-After": "60"}}' 2> provider.log &
until grep -s '^ready' provider.log; do sleep 0.05; done
echo fake-secret > client-secret
cat > refreshd.toml <<END
[providers.acme]
token_endpoint = "http://127.0.0.1:9400/token"
client_id = "fake-client"
client_secret_file = "client-secret"
reuse_policy = "non_rotating"
END
{_CONNECTED}{_SERVED}
echo '{{
  "credential_type": "oauth2", "expires_at": "2026-01-01T00:00:00Z",
  "secret": {{"access_token": "a", "refresh_token": "r"}}
}}' | connect acme 01a21f0d-9e30-7321-a7bb-a12a02c81e7a
refreshd token 01a21f0d-9e30-7321-a7bb-a12a02c81e7a || true
until refreshd history 01a21f0d-9e30-7321-a7bb-a12a02c81e7a | grep failed; do sleep 0.05; done
"""


@contextlib.contextmanager
def _nothing() -> Generator[dict[str, str]]:
    """Yield no variables."""
    yield {}


@contextlib.contextmanager
def _table() -> Generator[dict[str, str]]:
    try:
        with running_table() as url:
            yield {"DATABASE_URL": url}
    except CannotServeError as error:
        pytest.skip(str(error))


@contextlib.contextmanager
def _nango() -> Generator[dict[str, str]]:
    with running_nango() as url:
        yield {"NANGO_HOST": url}


class Scene(NamedTuple):
    """How a paper is run."""

    ports: tuple[str, ...] = ()
    """Which ports of the paper are others here."""
    before: str = ":"
    """What a reader has done before, as shell."""
    around: Callable[[], AbstractContextManager[Mapping[str, str]]] = _nothing
    """What is there meanwhile, and gives variables."""


SCENES = {
    "README.md": Scene(("9400", "9377")),
    "SECURITY.md": Scene(),
    "docs/backup.md": Scene(before=_ONE_STORED),
    "docs/bulk.md": Scene(),
    "docs/cluster.md": Scene(("422", "622", "822")),
    "docs/command-line.md": Scene(("9400",), _ONE_FAILS),
    "docs/fake-provider.md": Scene(("9400",)),
    "docs/keys.md": Scene(),
    "docs/monitoring.md": Scene(("9377",), _SERVED),
    "docs/nango.md": Scene(before=f"{_SERVED}echo {NANGO_KEY} > nango-key", around=_nango),
    "docs/own-table.md": Scene(before=_SERVED, around=_table),
    "docs/restore.md": Scene(),
    "docs/tutorial.md": Scene(("9400", "9377")),
}
"""Of each paper that has shell to run."""
