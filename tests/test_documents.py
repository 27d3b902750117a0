"""The contract's tables are what the code says, and no page names another that is not there."""

import re
import typing
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import NoneType
from uuid import UUID

import msgspec
import pytest

from domain.events import Event
from domain.list_query import HistoryQuery, ListQuery
from domain.result import FailureCode
from runtime.cli import asking
from runtime.gateway import bodies
from runtime.web.metrics import METRICS, PREFIX
from tests.reference import REFERENCE

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("clients/*/*.md")])
EVENT_TYPES: tuple[type[msgspec.Struct], ...] = typing.get_args(Event)
ENVELOPE = {"id", "occurred_at", "traceparent", "tracestate"}
ALWAYS = ["user_id", "connection_id", "provider_id", "provider_slug"]


def rows(page: str, section: str) -> list[list[str]]:
    """Return the cells of the tables in a section, without their heads."""
    text = (ROOT / page).read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    tables = re.findall(r"^\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for table in tables
        for line in table.splitlines()
    ]


def test_every_error_code_is_there_with_its_number_and_its_exit_code():
    told = [row[:3] for row in rows("docs/errors.md", "Codes")]

    assert told == [
        [f"`{code}`", str(code.number), str(asking._EXIT_CODES[code])] for code in FailureCode
    ]
    assert all(all(row) for row in rows("docs/errors.md", "Codes"))


def test_every_exit_code_is_there():
    told = {int(row[0]) for row in rows("docs/errors.md", "Exit codes")}

    known = {
        number
        for name, number in vars(asking).items()
        if name.startswith("EXIT_") and isinstance(number, int)
    }
    assert told >= known | {0}


def fields(event_type: type[msgspec.Struct]) -> list[msgspec.structs.FieldInfo]:
    """Return what is in an event's ``data``."""
    return [one for one in msgspec.structs.fields(event_type) if one.name not in ENVELOPE]


def test_every_type_of_event_is_there_with_its_subject_and_its_fields():
    told = [row for row in rows("docs/events.md", "Types") if row[0].startswith("`Provider")]

    for event_type in EVENT_TYPES:
        assert [one.name for one in fields(event_type)][:4] == ALWAYS
    assert (
        told
        == [
            [
                f"`{kind.__name__}`",
                f"`{kind.workflow.value}.{kind.outcome.value}`",  # type: ignore[attr-defined]
                ", ".join(f"`{one.name}{'' if one.required else '?'}`" for one in fields(kind)[4:]),
            ]
            for kind in EVENT_TYPES
        ]
    )


def type_words(annotation: object) -> str:
    """Return how the papers call a type."""
    options = [one for one in typing.get_args(annotation) if one is not NoneType] or [annotation]
    [kind] = options
    assert isinstance(kind, type)
    if issubclass(kind, StrEnum):
        return ", ".join(f"`{member}`" for member in kind)
    return {UUID: "UUID", datetime: "time", str: "text", int: "number", bool: "true or false"}[kind]


def test_every_field_of_an_event_is_there_with_its_type():
    told = {row[0].strip("`"): row[1] for row in rows("docs/events.md", "Types")}

    for event_type in EVENT_TYPES:
        hints = typing.get_type_hints(event_type)
        for one in fields(event_type):
            assert told[one.name].removesuffix(" or null") == type_words(hints[one.name]), one.name
    known = {one.name for event_type in EVENT_TYPES for one in fields(event_type)}
    assert {name for name in told if not name.startswith("Provider")} == known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_page_that_is_there(page: Path):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())

    for link in links:
        target, _, anchor = link.partition("#")
        if ":" in target:
            continue
        path = (page.parent / target) if target else page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


def anchors(page: Path) -> set[str]:
    """Return what the headings of a page can be linked by."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path):
    text = page.read_text()
    ours = re.findall(r"\b((?:domain|actors|runtime|tests|bench|docs)/[\w/.-]*\w/?)", text)
    named = re.findall(r"(?<![\w/.*<-])([A-Za-z_][\w-]*\.md)\b", text)
    modules = re.findall(r"python -m ((?:runtime|bench|tests)[\w.]*)", text)

    for name in ours:
        # A name may end where a wildcard follows, and a module's where its suffix would.
        pattern = f"{name}*" if name.endswith("_") else f"{name.rstrip('/')}.*"
        assert (ROOT / name).exists() or list(ROOT.glob(pattern)), name
    for name in named:
        assert any((folder / name).exists() for folder in (page.parent, ROOT, ROOT / "docs")), name
    for module in modules:
        path = ROOT / module.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").exists(), module


def test_every_metric_is_there_with_its_labels():
    told = [row for row in rows("docs/monitoring.md", "Metrics") if row[0].startswith("`refreshd_")]

    assert told == [
        [
            f"`{PREFIX}{one.name}{'_total' * (one.kind == 'counter')}`",
            ", ".join(f"`{label}`" for label in one.labels) or "-",
            "Histogram. " * (one.kind == "histogram") + one.says,
        ]
        for one in METRICS
    ]


BODIES: dict[str, type[msgspec.Struct]] = {
    "history": HistoryQuery,
    "connect": bodies.ConnectBody,
    "refresh": bodies.RefreshBody,
    "token": bodies.TokenBody,
    "expire": bodies.ReasonBody,
    "disconnect": bodies.DisconnectBody,
    "list": ListQuery,
}


def test_every_field_of_a_command_is_there_and_said_to_be_optional_where_it_is():
    told = {
        re.findall(r"\w+", row[0].split(",")[0])[-1]: re.findall(
            r"[a-z_]+\??", " ".join(re.findall(r"`(.+?)`", row[1]))
        )
        for row in rows("README.md", "Commands")
    }

    assert {verb for verb, names in told.items() if names} == {*BODIES}
    for verb, body in BODIES.items():
        # Credentials may be absent where a connection is pending: docs/bulk.md says so.
        assert told[verb] == [
            one.name + "?" * (not one.required and one.name != "credentials")
            for one in msgspec.structs.fields(body)
        ]


@pytest.mark.parametrize("page", REFERENCE)
def test_what_the_code_writes_of_itself_is_what_it_says_now(page: str):
    assert (ROOT / page).read_text() == REFERENCE[page](), "`make reference` writes it anew"


def test_every_setting_has_words():
    wordless = re.findall(r"^\| `(\w+)` .*\| - \|$", REFERENCE["docs/settings.md"](), re.MULTILINE)

    assert not wordless, "a docstring under the field, or a comment in docs/configuration.md"


def test_every_page_of_the_site_is_in_its_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    named = re.findall(r": (?!project/)([\w-]+\.md)$", navigation, re.MULTILINE)

    assert sorted(named) == sorted(page.name for page in ROOT.glob("docs/*.md"))
