"""What the daemon's process does before it runs the daemon."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

SERVE = """if True:
    import ctypes, resource, uvloop
    from runtime.cli import main as cli
    from runtime.logs import configure_logs, log

    def run(work):
        work.close()
        {look}

    uvloop.run = run
    cli.serve_command()
"""


def said_by_a_daemon(look: str) -> list[str]:
    """Return what ``look`` prints where the daemon would begin."""
    code = SERVE.format(look=look)
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, env={}
    )
    return (ended.stdout + ended.stderr).splitlines()


def test_it_leaves_no_core_file():
    assert said_by_a_daemon("print(resource.getrlimit(resource.RLIMIT_CORE))") == ["(0, 0)"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has prctl")
def test_its_memory_is_not_for_the_other_processes_of_its_user():
    assert said_by_a_daemon("print(ctypes.CDLL(None).prctl(3))") == ["0"]


def test_its_callers_cannot_fill_the_log():
    said = said_by_a_daemon("[log.warning('event') for _ in range(100)]")

    assert len(said) == 21
    assert "lines_left_out" in said[-1]
    assert "80" in said[-1]
