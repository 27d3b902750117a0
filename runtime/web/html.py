"""Pieces of HTML: whatever they are given is text, and only what they return is markup."""

import html
from collections.abc import Iterable, Sequence


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def joined(parts: Iterable[str]) -> Markup:
    """Return pieces one behind the other; what is no markup is escaped."""
    return Markup("".join(map(_escaped, parts)))


def element(name: str, *inside: str, **attributes: str | float | bool | None) -> Markup:
    """Return an element; an attribute's underscores are hyphens, None and False leave it out.

    Args:
        name: Of the element.
        *inside: Text, or markup.
        **attributes: ``class_`` is ``class``; True is an attribute without a value.
    """
    written = ""
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")  # noqa: PLW2901 -- as HTML has it
        written += f" {key}" if value is True else f' {key}="{html.escape(str(value))}"'
    return Markup(f"<{name}{written}>{joined(inside)}</{name}>")


def table(
    caption: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Sequence[str] = (),
) -> Markup:
    """Return a table that scrolls by itself where it is too wide; on a phone its rows are stacked.

    So each cell has its head as a label for eyes, and its role: what is not laid out as a table is
    no table for some screen readers.

    Args:
        caption: What it is called by who does not see it.
        heads: Of its columns; the first of a row is its head.
        rows: Texts, or markup.
        numbers: Which columns hold numbers.
    """
    align = ["number" if head in numbers else None for head in heads]
    head = [
        element("th", one, scope="col", role="columnheader", class_=to)
        for one, to in zip(heads, align, strict=True)
    ]
    body = [
        element(
            "tr",
            element("th", row[0], scope="row", role="rowheader", data_label=heads[0]),
            *(
                element("td", cell, role="cell", class_=to, data_label=name)
                for cell, to, name in zip(row[1:], align[1:], heads[1:], strict=True)
            ),
            role="row",
        )
        for row in rows
    ]
    whole = element(
        "table",
        element("thead", element("tr", *head, role="row"), role="rowgroup"),
        element("tbody", *body, role="rowgroup"),
        role="table",
    )
    name = "t-" + "".join(c if c.isalnum() else "-" for c in caption.lower())
    return element(
        "div", whole, class_="scroll", id=name, tabindex=0, role="region", aria_label=caption
    )


def _escaped(part: str) -> str:
    return part if isinstance(part, Markup) else html.escape(part)
