"""Whether a daemon lives and is ready, in the words of Kubernetes' own health endpoints."""

from collections.abc import Iterable
from typing import NamedTuple


class Check(NamedTuple):
    """One thing that readiness depends on."""

    name: str
    trouble: str = ""
    """Why it is not in order; empty where it is."""
    note: str = ""
    """What else an operator may want to know of it."""

    def __str__(self) -> str:
        """Return its line."""
        if self.trouble:
            return f"[-]{self.name} failed: {self.trouble}"
        return f"[+]{self.name} ok" + (f" ({self.note})" if self.note else "")


STARTING = Check("start", "the daemon has not started yet")


class Health(NamedTuple):
    """The answer of ``/livez`` or ``/readyz``."""

    name: str
    checks: tuple[Check, ...]

    @property
    def is_passed(self) -> bool:
        """Whether all is in order."""
        return not any(check.trouble for check in self.checks)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return 200 if self.is_passed else 503

    def text(self, *, is_verbose: bool) -> str:
        """Return the body: a line for each check, where that is wanted or one has failed."""
        if self.is_passed and not is_verbose:
            return "ok\n"
        verdict = "passed" if self.is_passed else "failed"
        return _lines([*map(str, self.checks), f"{self.name} check {verdict}"])


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
