"""Pieces of a page that opens from disk: no script, no request to any host, everything escaped."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from isthmus.data.pictures.grid import grid as sheet
from isthmus.data.pictures.grid import picture_address

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<h1>$title</h1>
$intro
<nav>$contents</nav>
$sections
</body>
</html>
""")


def document(title: str, intro: str, sections: Mapping[str, str], style: str = "") -> str:
    """A page, complete in one string.

    Args:
        title: Plain text.
        intro: Markup above the contents.
        sections: Heading → markup; a section without content is left out.
        style: CSS after the common one.
    """
    shown = {name: content for name, content in sections.items() if content}
    places = {name: name.lower().replace(" ", "-") for name in shown}
    links = "\n".join(f'<a href="#{place}">{name}</a>' for name, place in places.items())
    parts = "\n".join(
        f'<section id="{places[name]}"><h2>{name}</h2>\n{content}</section>'
        for name, content in shown.items()
    )
    common = (files("isthmus.evaluation") / "page.css").read_text(encoding="utf-8")
    return PAGE.substitute(
        title=escape(title), intro=intro, style=common + style, contents=links, sections=parts
    )


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    kind: str = "",
    doubtful: Collection[int] = (),
) -> str:
    """A table of markup. On a narrow screen each cell can show the name of its column.

    Args:
        header: Plain names of the columns.
        rows: Markup of the cells.
        kind: CSS classes.
        doubtful: Numbers of rows that are shaded.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = []
    for number, row in enumerate(rows):
        cells = zip(header, row, strict=True)
        lines.append(
            ('<tr class="doubt">' if number in doubtful else "<tr>")
            + "".join(f'<td data-name="{escape(name)}">{cell}</td>' for name, cell in cells)
            + "</tr>"
        )
    body = "\n".join(lines)
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def listed(items: Iterable[str], tag: str = "ol") -> str:
    """A list of texts, numbered or with ``ul`` not; nothing for no texts."""
    lines = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<{tag}>{lines}</{tag}>" if lines else ""


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
