"""Pieces of a page that opens from disk: no script, no request to any host, everything escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from html import escape
from typing import Any

from isthmus.data.pictures.grid import grid as sheet
from isthmus.data.pictures.grid import picture_address


def table(header: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table of cells that are markup already; on a narrow screen each cell tells its column."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = "\n".join(
        "<tr>"
        + "".join(
            f'<td data-name="{escape(name)}">{cell}</td>'
            for name, cell in zip(header, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>'


def listed(items: Iterable[str]) -> str:
    """A numbered list of texts."""
    return "<ol>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ol>"


def changed_words(before: str, after: str) -> str:
    """The second text, with words marked that the first does not have in that place."""
    old, new = before.split(), after.split()
    parts = []
    for kind, _, _, start, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        words = escape(" ".join(new[start:end]))
        if kind == "delete":
            words = "<mark>…</mark>"
        elif kind != "equal":
            words = f"<mark>{words}</mark>"
        parts.append(words)
    return " ".join(parts)


def grid(rows: Sequence[Sequence[Any]], name: str) -> str:
    """Pictures [C H W] in rows, as one picture inside the page."""
    return f'<img class="grid" alt="{escape(name)}" src="{picture_address(sheet(rows))}">'
