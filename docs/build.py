"""Build the documentation: run the code on its pages, then make a site of them.

    make docs       # installs what it needs; then open build/site/index.html

A fenced block that begins with ```` ```python run ```` or ```` ```bash run ```` is executed, page
after page in the order of mkdocs.yml, all in one folder: a page uses the files and runs of those
before it. What a block prints, and the .png files that it writes, are shown under it; ``lines=8``
shows the first eight lines only, ``lines=-8`` the last. The notebooks of examples/ are executed as
well. A block that fails, a broken link and a page that would load something from another host end
the build.
"""

from __future__ import annotations

import base64
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from textwrap import fill
from typing import Any, final

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small models: a second thread mostly waits
ROOT = Path(__file__).resolve().parents[1]
DOCS, EXAMPLES, BUILD = ROOT / "docs", ROOT / "examples", ROOT / "build"
BLOCK = re.compile(r"^```(python|bash) run(?: lines=(-?\d+))?\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")
COLOUR = re.compile(r"\x1b\[[\d;]*m")
ROLE = re.compile(r":(?:func|class|meth|attr|mod):(?=<code>)")
WIDTH = 96
SECONDS = 600
"""That a cell of a notebook may take, on a machine that has other things to do."""


class Failed(Exception):
    """A block that failed: the page, the line and what it said."""


@final
@dataclass
class Page:
    """A page whose blocks are executed in a folder, one after the other."""

    name: str
    text: str
    folder: Path
    pictures: Path
    """Where the .png files go that blocks write."""
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    """What its Python blocks have defined."""

    def executed(self) -> str:
        """The page with what its blocks print and draw under them."""
        return BLOCK.sub(self._shown, self.text)

    def _shown(self, block: re.Match[str]) -> str:
        language, lines, code = block.groups()
        before = self._drawn()
        printed = self._run(language, code, self.text[: block.start()].count("\n") + 1)
        shown = f"```{language}\n{code}```\n" + output(printed, int(lines or 0))
        for path, changed in sorted(self._drawn().items()):
            if before.get(path) != changed:
                shown += f"\n![What the block above draws]({self._kept(path)}){{ .drawn }}\n"
        return shown

    def _run(self, language: str, code: str, line: int) -> str:
        printed = io.StringIO()
        with chdir(self.folder), redirect_stdout(printed), redirect_stderr(printed):
            try:
                if language == "python":
                    exec(compile(code, f"{self.name}:{line}", "exec"), self.names)
                else:
                    for command in code.replace("\\\n", " ").splitlines():
                        execute(command, printed)
            except BaseException as error:
                what = "" if isinstance(error, Failed) else traceback.format_exc()
                raise Failed(f"{self.name}:{line}: {error}\n{printed.getvalue()}{what}") from error
        return printed.getvalue()

    def _drawn(self) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in self.folder.glob("*.png")}

    def _kept(self, path: Path) -> str:
        self.pictures.mkdir(parents=True, exist_ok=True)
        name = f"{Path(self.name).stem}-{path.name}"
        shutil.copy(path, self.pictures / name)
        return f"{self.pictures.name}/{name}"


def execute(command: str, printed: io.StringIO) -> None:
    """Run a line of a shell; isthmus in this process, where it need not import torch again."""
    words = shlex.split(command, comments=True)
    if words[:1] == ["isthmus"]:
        from isthmus.cli import main

        code = main(words[1:])
    else:
        done = subprocess.run(["bash", "-c", command], stdout=-1, stderr=-2, text=True)
        printed.write(done.stdout)
        code = done.returncode
    if code:
        raise Failed(f"{command}: exit code {code}")


def output(printed: str, most: int = 0) -> str:
    """A block with what was printed, its long lines wrapped; nothing for nothing."""
    lines = printed.rstrip().splitlines()
    if not lines:
        return ""
    if left := max(0, len(lines) - abs(most)) if most else 0:
        first = [*lines[:most], f"… {left:,} more"]
        lines = first if most > 0 else [f"… {left:,} before", *lines[most:]]
    wrapped = [
        line if len(line) <= WIDTH else fill(line, WIDTH, subsequent_indent="    ")
        for line in lines
    ]
    return "\n".join(["\n``` { .text .output }", *wrapped, "```\n"])


def linked(text: str, source: Path, target: Path) -> str:
    """A page whose links to files outside docs/ lead to copies of them in the site.

    A page lies in the site where its source lies in docs/, or else in the repository.
    """
    own = placed(source)

    def rewritten(match: re.Match[str]) -> str:
        file = (source.parent / match[2]).resolve()
        if not file.is_file():
            return match[0]
        place = placed(file)
        if not file.is_relative_to(DOCS) and not (copy := target / place).exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.touch()  # two pages may lead to each other
            plain = file.read_text(encoding="utf-8").replace("][", "]\\[")  # no reference there
            copy.write_text(linked(plain, file, target), encoding="utf-8")
        return match[1] + os.path.relpath(place, own.parent) + match[3]

    return LINK.sub(rewritten, text)


def placed(source: Path) -> Path:
    """Where a page lies in the site."""
    for folder in (DOCS, EXAMPLES):
        if source.is_relative_to(folder):
            return source.relative_to(folder)
    return source.relative_to(ROOT)


def notebook(path: Path, target: Path, folder: Path) -> None:
    """Execute a notebook; write it as a page with its outputs."""
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(path, as_version=4)
    NotebookClient(book, timeout=SECONDS, resources={"metadata": {"path": folder}}).execute()
    parts = []
    for cell in book.cells:
        if cell.cell_type == "markdown":
            parts.append(linked(cell.source, path, target))
        elif cell.cell_type == "code":
            parts.append(f"```python\n{cell.source}\n```")
            parts += [shown_output(one, path.stem, target) for one in cell.outputs]
    page = target / f"{path.stem}.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def shown_output(found: Any, name: str, target: Path) -> str:
    """An output of a notebook: a picture, HTML or text."""
    if found.output_type == "stream":  # on standard error libraries say what they load
        return output(found.text) if found.name == "stdout" else ""
    data = found.data
    if "image/png" in data:
        content = base64.b64decode(data["image/png"])
        picture = target / "drawn" / f"{name}-{len(list(target.glob(f'drawn/{name}-*')))}.png"
        picture.parent.mkdir(exist_ok=True)
        picture.write_bytes(content)
        return f"![What the cell above draws](drawn/{picture.name}){{ .drawn }}"
    if "text/html" in data:
        page = "".join(data["text/html"]).strip()
        return f'<div class="shown">{page}</div>' if page else ""  # a bar that is gone
    return output(data["text/plain"])


@final
class Loads(HTMLParser):
    """Addresses on other hosts that a page would load something from; links are none."""

    LINKS = frozenset({"canonical", "alternate", "next", "prev", "edit", "license"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Look at every attribute that loads."""
        given = {name: value or "" for name, value in attributes}
        names = {"src", "srcset", "poster", "data", "xlink:href", "style", "action"}
        if tag in ("link", "image", "use") and given.get("rel") not in self.LINKS:
            names |= {"href"}
        for name in names & given.keys():
            self.found += outside(given[name])

    def handle_data(self, data: str) -> None:
        """Look at style sheets inside the page."""
        if self.get_starttag_text() and self.get_starttag_text().startswith("<style"):
            self.found += outside(data)


def outside(text: str) -> list[str]:
    """Addresses of other hosts in an attribute's value or a style sheet."""
    return re.findall(r"(?<![\w:])(?:https?:)?//[\w.-]+\.[a-z]+[^\s\"')]*", text)


def loads(site: Path) -> Iterator[str]:
    """Every resource of another host that the pages and style sheets of a site would load."""
    for path in sorted(site.rglob("*.html")):
        parser = Loads()
        parser.feed(path.read_text(encoding="utf-8"))
        yield from (f"{path.relative_to(site)}: {found}" for found in parser.found)
    for path in sorted(site.rglob("*.css")):
        for found in re.findall(r"(?:url\(|@import)[^;)]*", path.read_text(encoding="utf-8")):
            yield from (f"{path.relative_to(site)}: {one}" for one in outside(found))


def ordered(entries: Any) -> Iterator[str]:
    """The pages of a navigation, in its order."""
    if isinstance(entries, str):
        yield entries
    else:
        for entry in entries.values() if isinstance(entries, dict) else entries:
            yield from ordered(entry)


def build() -> None:
    """Execute every page and notebook, and write the site."""
    import yaml

    import isthmus.training.run  # noqa: F401  verbs that do not train leave libraries of it out

    shutil.rmtree(BUILD, ignore_errors=True)
    target, folder = BUILD / "docs", BUILD / "work"
    folder.mkdir(parents=True)
    shutil.copytree(DOCS / "assets", target / "assets")
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    for name in ordered(navigation):
        began = time.monotonic()
        page, book = DOCS / name, EXAMPLES / Path(name).with_suffix(".ipynb")
        if page.is_file():
            text = Page(
                name, page.read_text(encoding="utf-8"), folder, target / "drawn"
            ).executed()
            (target / name).write_text(linked(text, page, target), encoding="utf-8")
        elif book.is_file():
            notebook(book, target, folder)
        elif (ROOT / name).is_file():
            text = linked((ROOT / name).read_text(encoding="utf-8"), ROOT / name, target)
            (target / name).write_text(text, encoding="utf-8")
        print(f"{time.monotonic() - began:5.1f} s  {name}", file=sys.stderr)
    words = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    made = subprocess.run(words, cwd=ROOT, stdout=-1, stderr=-2, text=True)
    print(COLOUR.sub("", made.stdout), file=sys.stderr)
    if made.returncode:
        raise Failed("the site was not built")
    for path in (BUILD / "site").rglob("*.html"):
        path.write_text(ROLE.sub("", path.read_text(encoding="utf-8")), encoding="utf-8")
    if found := list(loads(BUILD / "site")):
        raise Failed("the site loads from other hosts:\n" + "\n".join(found))


if __name__ == "__main__":
    try:
        build()
    except Failed as error:
        sys.exit(f"docs: {error}")
