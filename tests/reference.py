"""The reference pages that the code writes: ``python -m tests.reference`` writes them anew."""

import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import msgspec
from msgspec import inspect as types

from runtime.cli.main import app
from runtime.config import ENVIRONMENT_PREFIX, Config
from tests.fakes.papers import ROOT, block

_WRITTEN_BY = "Written by `make reference` from the code; a test holds it to that."
_UNITS = {"_s": "seconds", "_per_s": "per second", "_bytes": "bytes"}


def settings_page() -> str:
    """Return docs/settings.md: every key of the configuration, with what its type says."""
    lines = [
        "# Settings",
        "",
        "Every key of the file, but those of `[providers.<slug>]`, which [Providers](providers.md) has.",
        _WRITTEN_BY,
        "[Configuration](configuration.md) has them as one file to copy from, and what to know beyond.",
        f"The variable of a key is `{ENVIRONMENT_PREFIX}<SECTION>_<KEY>`.",
    ]
    for section, of in _sections(Config, ""):
        lines += ["", f"## [{section}]", "", _paragraph(of.__doc__ or ""), ""]
        lines += ["| key | type | default | what |", "|---|---|---|---|"]
        lines += [" | ".join(row) for row in _rows(of, _comments(section))]
    return "\n".join(lines) + "\n"


def verbs_page() -> str:
    """Return docs/verbs.md: every verb with its options."""
    with mock.patch.object(sys, "argv", ["refreshd"]):
        text = app.generate_docs(usage_name="refreshd")
    _, _, verbs = text.partition("\n**Commands**:\n")
    return "\n".join(
        (
            "# Verbs",
            "",
            f"{_WRITTEN_BY} [Command line](command-line.md) has output, errors and exit codes.",
            verbs.rstrip() + "\n",
        )
    )


REFERENCE = {"docs/settings.md": settings_page, "docs/verbs.md": verbs_page}


def _sections(of: type[msgspec.Struct], name: str) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """Yield each table of the file with its type."""
    for field in msgspec.structs.fields(of):
        kind = types.type_info(field.type)
        if isinstance(kind, types.StructType):
            path = f"{name}.{field.encode_name}".lstrip(".")
            yield path, kind.cls
            yield from _sections(kind.cls, path)


def _rows(of: type[msgspec.Struct], comments: dict[str, str]) -> Iterator[tuple[str, ...]]:
    told = comments | _docstrings(of)
    for field in msgspec.structs.fields(of):
        kind = types.type_info(field.type)
        if not isinstance(kind, types.StructType):
            default = json.loads(msgspec.json.encode(field.default, enc_hook=str))
            shown = "-" if default is None else f"`{json.dumps(default)}`"
            what = told.get(field.name, "-").replace("|", "\\|")
            yield f"| `{field.encode_name}`", _words(kind, field.name), shown, f"{what} |"


def _words(kind: types.Type, name: str) -> str:
    """Return a type in words, with its unit and its bounds."""
    match kind:
        case types.UnionType(types=options):
            return " or ".join(_words(one, name) for one in options if not _is_none(one))
        case types.IntType() | types.FloatType():
            units = [unit for end, unit in _UNITS.items() if end in re.sub("_(max|min)$", "", name)]
            number = "whole number" if isinstance(kind, types.IntType) else "number"
            return ", ".join([number, *units[-1:], *_bounds(kind)])
        case types.StrType():
            return "text"
        case types.CustomType(cls=cls) if cls is Path:
            return "path"
        case types.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case types.VarTupleType(item_type=item):
            return f"list of {_words(item, name)}"
        case _:
            raise AssertionError(f"no word for {kind}")


def _bounds(kind: types.IntType | types.FloatType) -> Iterator[str]:
    if kind.ge is not None and kind.le is not None:
        yield f"{kind.ge} to {kind.le}"
    elif kind.ge is not None:
        yield f"{kind.ge} or more"
    if kind.gt is not None:
        yield f"over {kind.gt}"


def _comments(section: str) -> dict[str, str]:
    """Return what docs/configuration.md says behind the keys of a section."""
    _, _, text = block("docs/configuration.md", "toml").partition(f"\n[{section}]\n")
    lines = text.partition("\n[")[0] if text else ""
    told = re.findall(r"^(?:# )?(\w+) = .*?  # (.+)$", lines, re.MULTILINE)
    return dict(told)


def _is_none(kind: types.Type) -> bool:
    return isinstance(kind, types.NoneType)


def _docstrings(of: type) -> dict[str, str]:
    """Return what stands under each field in the source."""
    [struct] = ast.parse(textwrap.dedent(inspect.getsource(of))).body
    assert isinstance(struct, ast.ClassDef)
    found: dict[str, str] = {}
    for field, after in zip(struct.body, struct.body[1:], strict=False):
        match field, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = _paragraph(text)
            case _:
                pass
    return found


def _paragraph(text: str) -> str:
    """Return a docstring as one line of Markdown."""
    words = re.sub(r"\bNone\b", "absent", " ".join(text.replace("``", "`").split()))
    return words[:1].upper() + words[1:]


def main() -> None:
    """Write the pages."""
    for name, page in REFERENCE.items():
        (ROOT / name).write_text(page())


if __name__ == "__main__":
    main()
