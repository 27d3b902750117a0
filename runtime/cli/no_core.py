"""What holds keys and tokens in its memory leaves none of it behind where it crashes."""

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4


def leave_no_core() -> None:
    """Let no core file be made of this process: it would hold keys and tokens.

    On Linux no other process of its user may read its memory from now on, either.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # The limit does not hold where cores are piped to a program.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)
