"""The style that can be checked is checked: what each layer may import, and how long things get."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {
    "domain": {"domain", "msgspec"},
    "actors": {"actors", "domain", "anyio", "msgspec"},
}
"""What a layer may import besides the standard library, and below what of that it may not."""
PURE = {
    "__future__",
    "collections",
    "contextlib",
    "base64",
    "binascii",
    "dataclasses",
    "datetime",
    "email",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "math",
    "re",
    "typing",
    "urllib",
    "uuid",
}
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70

MODULES = [
    path
    for folder in ("domain", "actors", "runtime", "tests", "bench", "clients")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
INNER = [path for path in MODULES if path.relative_to(ROOT).parts[0] in LAYERS]


def imported(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("path", INNER, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_inner_layer_imports_nothing_but_what_it_is_allowed(path: Path):
    layer = path.relative_to(ROOT).parts[0]

    names = imported(ast.parse(path.read_text()))

    assert names <= LAYERS[layer] | PURE
    assert (names & sys.stdlib_module_names) <= PURE


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_one_noun_and_a_function_fits_a_screen(path: Path):
    text = path.read_text()

    functions = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    too_long = [
        node.name
        for node in functions
        if (node.end_lineno or 0) - node.lineno + 1 - docstring_lines(node) > FUNCTION_LINES_MAX
    ]

    assert len(text.splitlines()) <= MODULE_LINES_MAX
    assert not too_long


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return (first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0
