"""The documentation's site: the code on its pages runs, and they load nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

import isthmus
from browser import Watch, chromium, serving
from isthmus.settings.recipe import recipe_names

ROOT = Path(__file__).parents[1]
SITE = ROOT / "build" / "site"
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
SIZES = [(390, 844), (1280, 900)]
"""Of a phone, at which pages are loaded, and of a desk."""


def script():
    """docs/build.py, which is in no package."""
    found = importlib.util.spec_from_file_location("build_docs", ROOT / "docs" / "build.py")
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


build = script()


def executed(text, folder):
    return build.Page("page.md", text, folder, folder / "drawn").executed()


def test_blocks_are_executed_in_order_and_shown_with_what_they_print(tmp_path):
    page = (
        "```python run\nx = 6\n```\n\n```python\nprint('not run')\n```\n\n"
        "```python run\nprint(x * 7)\n```\n\n```bash run lines=2\nprintf '1\\n2\\n3\\n'\n```\n"
        "```bash run lines=-1\nprintf '1\\n2\\n3\\n'\n```\n"
    )
    assert executed(page, tmp_path) == (
        "```python\nx = 6\n```\n\n\n```python\nprint('not run')\n```\n\n"
        "```python\nprint(x * 7)\n```\n\n``` { .text .output }\n42\n```\n\n\n"
        "```bash\nprintf '1\\n2\\n3\\n'\n```\n\n"
        "``` { .text .output }\n1\n2\n… 1 more\n```\n\n"
        "```bash\nprintf '1\\n2\\n3\\n'\n```\n\n``` { .text .output }\n… 2 before\n3\n```\n\n"
    )


def test_isthmus_runs_in_a_block_and_so_does_what_it_draws(tmp_path):
    page = (
        "```bash run\nisthmus --version\n```\n"
        "```python run\nfrom PIL import Image\nImage.new('L', (4, 4)).save('dot.png')\n```\n"
    )
    shown = executed(page, tmp_path)
    assert f"\n{isthmus.__version__}\n" in shown
    assert shown.count("](drawn/page-dot.png)") == 1
    assert (tmp_path / "drawn" / "page-dot.png").is_file()


@pytest.mark.parametrize(
    "block",
    ["```python run\n1 / 0\n```", "```bash run\nfalse\n```", "```bash run\nisthmus x\n```"],
)
def test_a_block_that_fails_is_named_by_page_and_line(block, tmp_path):
    with pytest.raises(build.Failed, match=r"^page\.md:3: "):
        executed(f"# Title\n\n{block}\n", tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "address"),
    [
        ("a.html", '<link rel="stylesheet" href="https://fonts.example/a">', "https://fonts.exam"),
        ("a.html", '<link rel="preconnect" href="https://fonts.example">', "https://fonts.exam"),
        ("a.html", '<script src="//cdn.example/a.js"></script>', "//cdn.example/a.js"),
        ("a.html", '<img src="x.png" srcset="http://cdn.example/x.png 2x">', "http://cdn.example"),
        ("a.html", "<style>a{background:url(https://cdn.example/a)}</style>", "https://cdn.exam"),
        ("a.css", '@import "https://cdn.example/a.css";', "https://cdn.example/a.css"),
        ("a.css", "a{src:url('//cdn.example/a.woff2')}", "//cdn.example/a.woff2"),
    ],
)
def test_what_a_page_would_load_from_another_host_is_found(name, text, address, tmp_path):
    harmless = (
        '<a href="https://a.example">a</a><link rel="canonical" href="https://a.example">'
        '<img src="data:image/svg+xml,%3Csvg xmlns=%27http://www.w3.org/2000/svg%27/%3E">'
        '<svg xmlns="http://www.w3.org/2000/svg"></svg><p>@import https://a.example</p>'
    )
    (tmp_path / "b.html").write_text(harmless)
    assert list(build.loads(tmp_path)) == []
    (tmp_path / name).write_text(text)
    [found] = build.loads(tmp_path)
    assert found.startswith(f"{name}: {address}")


def test_links_that_leave_the_docs_lead_to_copies(tmp_path):
    source = ROOT / "docs" / "page.md"
    text = "[a](../CONTRIBUTING.md#x) [b](numbers.md) [c](https://a.example/CONTRIBUTING.md)"
    assert build.linked(text, source, tmp_path) == text.replace("../", "")
    copied = (tmp_path / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert "(extending.md)" in copied
    book = build.linked("[a](../docs/control.md)", ROOT / "examples" / "a.ipynb", tmp_path)
    assert book == "[a](control.md)"


def navigation():
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]


def test_every_page_and_notebook_is_in_the_navigation():
    pages = {page.name for page in (ROOT / "docs").glob("*.md")}
    books = {book.with_suffix(".md").name for book in NOTEBOOKS}
    assert set(build.ordered(navigation())) == pages | books | {"CONTRIBUTING.md", "CHANGELOG.md"}


def test_the_reference_has_every_public_name():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    missing = [name for name in isthmus.__all__ if f"::: isthmus.{name}\n" not in text]
    assert missing == ["__version__"]


def test_the_page_of_recipes_names_every_recipe():
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    private = {"demo", "demo-autoencoder"}
    assert [
        name for name in recipe_names() if f"`{name}`" not in text and name not in private
    ] == []


def test_code_fits_its_column():
    """docs/assets/site.css makes room for so many signs; the rest would be hidden."""
    long = [
        f"{page.name}: {line}"
        for page in sorted((ROOT / "docs").glob("*.md"))
        for block in re.findall(r"^```.*?\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
        for line in block.splitlines()
        if len(line) > 88
    ]
    assert long == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_stored_without_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []


@pytest.fixture(scope="module")
def site():
    if not (SITE / "index.html").is_file():
        pytest.skip("no site: make docs builds it")
    pages = Starlette(routes=[Mount("/", StaticFiles(directory=SITE, html=True))])
    with serving(pages) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield found
        found.close()


def test_every_page_opens_and_asks_no_other_host(site, browser):
    page = browser.new_page()
    watch = Watch(page)
    for name in build.ordered(navigation()):
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            if (width, height) == SIZES[0]:
                page.goto(site + name.replace(".md", ".html"))
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{name} is {wide} wide"
        assert page.locator("article h1").count() == 1, name
        broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        assert page.evaluate(broken) == [], name
    watch.check()
    page.close()


def test_the_search_finds_a_page(site, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    watch = Watch(page)
    page.goto(site)
    page.keyboard.press("/")
    page.keyboard.type("swap gap")
    page.get_by_role("link", name="What the numbers mean").first.wait_for()
    watch.check()
    page.close()
