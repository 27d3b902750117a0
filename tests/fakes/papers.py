"""What a paper of the project shows as code."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def block(paper: str, language: str, start: str = "") -> str:
    """Return the first code block of a paper that is in ``language`` and begins with ``start``."""
    text = (ROOT / paper).read_text()
    found = re.search(rf"```{language}\n({re.escape(start)}.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]
