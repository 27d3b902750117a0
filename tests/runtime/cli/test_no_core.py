"""The verbs that hold secrets leave no core file, either."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

LOOK = """if True:
    import resource, sys
    from runtime.cli import asking
    from runtime.cli.main import app

    def settings(_place):
        print(resource.getrlimit(resource.RLIMIT_CORE))
        sys.exit()

    asking.Place.settings = settings
    app({arguments!r})
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["import", "x"],
        ["export", "x", "--passphrase-file", "/proc/version"],
        ["restore", "x", "--passphrase-file", "/proc/version"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_it_leaves_no_core_file(arguments: list[str]):
    ended = subprocess.run(
        [sys.executable, "-c", LOOK.format(arguments=arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        env={},
    )

    assert ended.stdout == "(0, 0)\n"
