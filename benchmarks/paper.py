"""All results as one page, build/results.html: tables, figures, and the command of every figure.

The tables of all text systems come from results/seeds_*.json, with rate and distortion drawn and
published rows beside; every other table is that of results/NAME.md, made by benchmarks/NAME.py.

    python benchmarks/paper.py
"""

from __future__ import annotations

import ast
import re
from html import escape
from pathlib import Path

import common
from common import BENCHMARKS, RESULTS
from isthmus.bench.paper import Part, page, place
from isthmus.evaluation.page import table
from seeds import CORPORA

OUT = Path("build/results.html")
LONG = 60
"""Rows of a table that is folded."""
INTRO = (
    "Every figure leads to the command that made it. Nats per sentence unless the name says "
    "otherwise; ± one standard error."
)


def part(corpus: str, title: str) -> Part:
    """The table of all text systems on a corpus."""
    rows = (common.read(f"seeds_{corpus}") or {"rows": []})["rows"]
    commands = {
        row["row"]: f"isthmus bench seeds --data {corpus} --rows {row['plain']} {row['row']} "
        f"--seeds {row['seeds']}; python benchmarks/seeds.py".replace("  ", " ")
        for row in rows
    }
    return Part(title, rows, commands, corpus)


def script_of(result: str) -> str:
    """The script that writes a result file, whose name begins with the script's."""
    while not (BENCHMARKS / f"{result}.py").is_file():
        result = result.rpartition("_")[0]
    return result


def usage(name: str) -> str:
    """The first paragraph and the commands of a script's description."""
    script = BENCHMARKS / f"{name}.py"
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    summary = text.partition("\n\n")[0].replace("\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    code = "\n".join(lines) or f"python benchmarks/{name}.py"
    return f"<p>{escape(summary)}</p><pre><code>{escape(code)}</code></pre>"


def marked(text: str) -> str:
    """Escaped text with code and bold."""
    shown = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", shown).replace("\\|", "|")


def rendered(text: str, target: str) -> str:
    """Markup of a result file: headings, tables, lists and paragraphs, which is all they have."""
    found = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        if lines[0].startswith("#"):
            head = lines.pop(0)
            found += [f"<h3>{marked(head.lstrip('# '))}</h3>"] if head.startswith("##") else []
        if not lines:
            continue
        if lines[0].startswith("|"):
            head, _, *rows = [
                [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]
                for line in lines
            ]
            cells = [[f'<a href="#{target}">{marked(c)}</a>' for c in row] for row in rows]
            shown = f'<div class="wide">{table(head, cells, "figures remarks named")}</div>'
            if len(rows) > LONG:
                shown = f"<details><summary>{len(rows)} rows</summary>{shown}</details>"
            found.append(shown)
        elif lines[0].startswith("* "):
            points = re.split(r"\n\* ", block.removeprefix("* "))
            found.append("<ul>" + "".join(f"<li>{marked(p)}</li>" for p in points) + "</ul>")
        else:
            found.append(f"<p>{marked(' '.join(lines))}</p>")
    return "\n".join(found)


def others() -> dict[str, str]:
    """A section for each other result file, under its title."""
    sections = {}
    for path in sorted(RESULTS.glob("*.md")):
        name = script_of(path.stem)
        if name == "seeds":
            continue
        text = path.read_text(encoding="utf-8")
        title = text.splitlines()[0].lstrip("# ") if text.startswith("# ") else path.stem
        target = place("script", path.stem)
        how = f'<div id="{target}" class="soft">{usage(name)}</div>'
        sections[title] = rendered(text, target) + "<h3>How it was made</h3>" + how
    return sections


def main() -> None:
    parts = [part(corpus, title) for corpus, title in CORPORA.items()]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(page("Results", INTRO, parts, others()), encoding="utf-8")
    print(OUT)


if __name__ == "__main__":
    main()
