"""What docs/providers.md shows of the fields is all of them, with their defaults; examples build."""

import re
import tomllib
from enum import Enum
from typing import Any

import msgspec
import pytest
from msgspec import structs

from domain.profile import AnswerPaths, ErrorRule, ProviderProfile, ReusePolicy
from runtime.provider.profiles import configured_profile, shipped_slugs
from tests.conftest import ROOT

PAPER = (ROOT / "docs/providers.md").read_text()
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAPER, re.DOTALL)
DERIVED = {"slug", "client_secrets"}


def table(after: str) -> dict[str, str]:
    """The rows ``| `field` | default |`` from a heading to the next one."""
    part = re.split(r"^(?:#|`\[)", PAPER.partition(after)[2], maxsplit=1, flags=re.MULTILINE)[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]*?) \|", part, re.MULTILINE))


def told(default: Any) -> str:
    plain: dict[Any, str] = {None: "-", "": "-", (): "empty", AnswerPaths(): "as below"}
    if default is msgspec.NODEFAULT:
        return "needed"
    if isinstance(default, dict) or default in plain:
        return "empty" if default in ((), {}) else plain[default]
    if isinstance(default, bool | ReusePolicy):
        return str(default).lower()
    if isinstance(default, Enum):
        return str(default.value)
    return f"{default:.10g}" if isinstance(default, float) else str(default)


def defaults(struct: type[msgspec.Struct]) -> dict[str, str]:
    made = {
        field.name: field.default_factory() if callable(field.default_factory) else field.default
        for field in structs.fields(struct)
    }
    return {name: told(default) for name, default in made.items() if name not in DERIVED}


def test_the_paper_has_every_field_of_a_profile_with_its_default():
    headings = (
        "Where",
        "As whom",
        "What is sent",
        "What comes back",
        "What it means",
        "When",
        "Bounds",
    )
    shown: dict[str, str] = {}
    for heading in headings:
        shown |= table(f"### {heading}\n")

    assert shown == defaults(ProviderProfile)


@pytest.mark.parametrize(
    ("after", "struct"),
    [
        ("`[providers.<slug>.answer]`:\n", AnswerPaths),
        ("`[[providers.<slug>.error_map]]`:", ErrorRule),
    ],
)
def test_the_paper_has_every_field_of_a_nested_table(after: str, struct: type[msgspec.Struct]):
    assert table(after) == defaults(struct)


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_of_the_paper_builds(text: str):
    (given,) = tomllib.loads(text)["providers"].items()
    slug, section = given

    assert configured_profile(slug, section).slug == slug


def test_the_example_of_schwab_is_the_shipped_profile():
    (text,) = [text for text in EXAMPLES if "[providers.schwab]" in text]
    full = tomllib.loads(text)["providers"]["schwab"]
    client = {"client_id": full["client_id"], "client_secret_files": full["client_secret_files"]}

    assert configured_profile("schwab", full) == configured_profile("schwab", client)


def test_the_papers_count_what_is_shipped():
    assert f"{len(shipped_slugs())} profiles are shipped" in PAPER
    configuration = (ROOT / "docs/configuration.md").read_text()
    assert f"{len(shipped_slugs())} profiles are shipped" in configuration
