"""Every block of code in the papers is run, or marked as one that cannot be, and can be typed.

``tests/e2e/test_paper_blocks.py`` runs the shell. What a paper names of the command line is there.
"""

import ast
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator

import pytest
import yaml
from cyclopts import App, CycloptsError

from runtime.cli.main import app
from tests.fakes.paper_scenes import SCENES
from tests.fakes.paper_shell import steps
from tests.fakes.papers import PAPERS, ROOT, Block, blocks, prose

REFERENCE = "docs/verbs.md"
PYTHON = {
    "README.md": "the shell of the paper",
    "clients/python/README.md": "tests/client/test_client_papers.py",
    "docs/fake-provider.md": "tests/runtime/fake_provider/test_fake_provider_papers.py",
    "docs/nango.md": "the shell of the paper",
    "docs/own-table.md": "tests/bench/test_how_tos.py",
}
"""Which papers have Python, and what runs it."""
LANGUAGES = {"", "sh", "text", "python", "json", "toml", "yaml", "sql"}
COMMAND = re.compile(r"(?:^|[\s(;|])(?<!--context )refreshd((?: +[^\s|&;<>()\"'`#]+)+)")
PROMPTED = re.compile(r"^(\$ |(refreshd|make|docker|kubectl|nats|pip|curl) )", re.MULTILINE)
NO_VERBS = {"connection-token"}
"""A span's name begins as a command does."""


def all_blocks() -> Iterator[tuple[str, Block]]:
    for paper in PAPERS:
        for one in blocks(paper):
            yield paper, one


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words behind each ``refreshd`` that is followed by a verb."""
    typed = re.sub(r"(?m)(^|\s)#.*$", "", text.replace("\\\n", " "))
    for found in COMMAND.finditer(typed):
        words = found[1].split()
        if re.fullmatch(r"[a-z][a-z-]*", words[0]) and words[0] not in NO_VERBS:
            yield words


def unknown(words: list[str]) -> list[str]:
    """Return what of a command the program has not: its verb, or options."""
    found: App = app
    while words and words[0] in found and not words[0].startswith("-"):
        found, words = found[words[0]], words[1:]
    if found.default_command is None:
        return [word for word in words[:1] if not word.startswith("-")]
    given = [re.match(r"--[a-z-]+|-[a-z](?=$)", word) for word in words]
    known = {name for one in found.assemble_argument_collection() for name in one.names}
    return [one[0] for one in given if one and one[0] not in known | {"--help"}]


def test_every_paper_with_shell_is_run():
    assert {paper for paper in PAPERS if any(one.script for one in steps(paper))} == {*SCENES}


def test_every_paper_with_python_is_run():
    assert {paper for paper, one in all_blocks() if one.language == "python"} == {*PYTHON}
    for runner in PYTHON.values():
        assert runner == "the shell of the paper" or (ROOT / runner).exists()


def test_every_block_says_what_it_is():
    for paper, one in all_blocks():
        if paper != REFERENCE:
            assert one.language in LANGUAGES, f"{paper}: {one.language}"
            assert one.language or not PROMPTED.search(one.text), f"{paper}: sh\n{one.text}"
        if one.language == "sh":
            assert not one.text.startswith("$ "), f"{paper}: no prompt, so that it can be copied"


@pytest.mark.parametrize(("paper", "one"), [pair for pair in all_blocks() if pair[1].not_run])
def test_what_cannot_be_run_here_can_be_typed(paper: str, one: Block):
    parsed = subprocess.run(
        ["bash", "-n"], input=one.text, text=True, capture_output=True, check=False
    )
    made = re.findall(r"^make (\w+)", one.text, re.MULTILINE)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert (parsed.returncode, parsed.stderr) == (0, "")
    assert {*made} <= {*targets}
    for words in commands(one.text):
        try:
            app.parse_args(words, print_error=False, exit_on_error=False)
        except CycloptsError as error:
            pytest.fail(f"{shlex.join(words)}: {error}")


@pytest.mark.parametrize("paper", PAPERS)
def test_every_verb_and_option_that_a_paper_names_is_there(paper: str):
    spans = re.findall(r"`([^`]+)`", prose(paper))
    texts = [*spans, *(one.text for one in blocks(paper) if one.language in {"sh", "console"})]

    wrong = [
        (words, lacks)
        for text in texts
        for words in commands(" ".join(text.split("\n")) if text in spans else text)
        if (lacks := unknown(words))
    ]
    assert wrong == []


@pytest.mark.parametrize("paper", sorted(PYTHON))
def test_every_block_of_python_compiles(paper: str):
    for one in blocks(paper):
        if one.language == "python":
            compile(one.text, paper, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_every_block_of_settings_or_data_can_be_read():
    readers = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
    for paper, one in all_blocks():
        if one.language in readers:
            assert readers[one.language](one.text), paper


@pytest.mark.parametrize(
    ("typed", "lacks"),
    [
        ("refreshd connect --pending --alias mine", []),
        ("kubectl exec refreshd-0 -- refreshd status", []),
        ('curl -H "$(refreshd token ID --headr)" http://a', ["--headr"]),
        ("refreshd provider tset acme", ["tset"]),
        ("refreshd reconnect", ["reconnect"]),
        ("refreshd list -x", ["-x"]),
        ("kubectl create configmap refreshd --from-file=refreshd.toml", []),
    ],
)
def test_what_the_program_has_not_is_found(typed: str, lacks: list[str]):
    assert [one for words in commands(typed) for one in unknown(words)] == lacks
