"""Molecules are drawn; a space is searched by the objective that the command line named."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tiny_runs import opened, wait

from browser import Watch, chromium, serving
from isthmus.cli import main
from isthmus.errors import IsthmusError
from isthmus.explore.objectives import Objective
from isthmus.studio import structures
from isthmus.studio.server import make
from isthmus.studio.space import Space

SMILES = ["CCO", "c1ccccc1", "CC(=O)Oc1ccccc1C(=O)O", "C1CCNCC1", "N#CC[C@H](F)Cl", "OC(=O)C=C"]


@pytest.fixture
def molecules(runs, tmp_path) -> Space:
    pytest.importorskip("rdkit", reason="RDKit is not installed: pip install 'isthmus[molecules]'")
    path = tmp_path / "molecules.txt"
    path.write_text("\n".join(SMILES * 4), encoding="utf-8")
    return Space(runs["text"], str(path))


def test_molecules_are_drawn_and_nothing_else_is(molecules, text):
    with opened(molecules) as client:
        assert client.get("/api/run").json()["can"]["structures"]
        shown = client.get("/api/texts?indices=2").json()["texts"][0]
        got = client.get(f"/{shown['structure']}")
        assert got.headers["content-type"] == "image/svg+xml"
        root = ElementTree.fromstring(got.content)
        tags = {each.tag.rpartition("}")[2] for each in root.iter()}
        assert tags <= {"svg", "rect", "path", "ellipse"}
        bonds = [each for each in root.iter() if each.tag.endswith("path")]
        assert len(bonds) >= 13  # of aspirin
        assert got.content == structures.drawing(SMILES[2])
        items = client.post("/api/encode", json={"inputs": ["CCO"]}).json()["items"]
        assert all(
            ("structure" in item) == bool(structures.address(item["text"])) for item in items
        )
        for wrong in ("C1CC", "CC <svg onload=alert(1)>", "<script>", "", "C" * 500, "CC\tname"):
            assert client.get("/api/structure", params={"text": wrong}).status_code == 400
    client, space = text
    assert not space.has_structures
    assert "structure" not in client.get("/api/texts?indices=2").json()["texts"][0]


def test_which_corpora_are_molecules():
    pytest.importorskip("rdkit", reason="RDKit is not installed: pip install 'isthmus[molecules]'")
    assert structures.are_molecules([*SMILES, *SMILES, "C1CC"])  # one is damaged
    for texts in (["no", "on", "I am"], ["ACGT", "GGCA"], ["MKV", "AAG"], ["e4 e5"], ["水"], []):
        assert not structures.are_molecules(texts)


def letters(text: str) -> int:
    return text.count("a") - text.count("b")


def test_the_space_is_searched_by_the_objective_alone_that_was_given(
    runs, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("cma", reason="cma is not installed: pip install 'isthmus[optimise]'")
    monkeypatch.chdir(tmp_path)
    function = 'def letters(text):\n    return text.count("a") - text.count("b")\n'
    Path("mine.py").write_text(function, encoding="utf-8")
    space = Space(runs["text"], runs["corpus"])
    with opened(space) as client:
        refused = client.post("/api/optimise", json={"calls": 10})
        assert "--objective" in refused.json()["error"]
        space.objective, space.objective_name = Objective(letters), "mine.py:letters"
        assert client.post("/api/optimise", json={"objective": "os:remove"}).status_code == 422
        got = client.post("/api/optimise", json={"calls": 10, "seed": 3}).json()
    values = [item["value"] for item in got["items"]]
    assert values == [letters(item["text"]) for item in got["items"]]
    assert values == sorted(values, reverse=True)
    assert {item["text"] for item in got["items"]} <= set(space.objective.known)
    assert all(item["log_prior"] is not None for item in got["items"])
    best = got["curves"]["Best so far"]
    names = ["the search", "random search", "texts of the data"]
    assert [each["name"] for each in best] == names
    assert best[0]["points"][-1][1] == values[0]

    exec(compile(got["python"], "script", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines == [str((item["value"], item["text"])) for item in got["items"]]
    assert main([*shlex.split(got["command"])[1:], "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()[:-1]]
    assert [row["text"] for row in rows] == [item["text"] for item in got["items"]]


def test_an_objective_that_fails_everywhere_is_one_line(runs):
    pytest.importorskip("cma", reason="cma is not installed: pip install 'isthmus[optimise]'")
    space = Space(runs["text"], runs["corpus"])
    space.objective = Objective(lambda text: 1 / 0)
    with opened(space) as client:
        answer = client.post("/api/optimise", json={"calls": 10})
    assert answer.status_code == 400
    assert "ZeroDivisionError" in answer.json()["error"]
    with pytest.raises(IsthmusError, match="expected a SMILES string"):
        structures.drawing("no")


@pytest.fixture
def visit() -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = chromium()
    with ExitStack() as stack:
        driver = stack.enter_context(playwright.sync_playwright())
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        stack.callback(browser.close)

        def visited(space: Space, part: str):
            address = stack.enter_context(serving(make(space)))
            wait(lambda: space.map._crowd is not None)
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.watch = Watch(page)
            stack.callback(page.watch.check)
            page.goto(address + part)
            return page, playwright.expect

        yield visited


def test_a_point_shows_its_structure_and_a_search_its_way(visit, molecules):
    pytest.importorskip("cma", reason="cma is not installed: pip install 'isthmus[optimise]'")
    molecules.objective, molecules.objective_name = Objective(letters), "mine:letters"
    page, expect = visit(molecules, "#map?map.here=%232")
    here = page.locator("section.here")
    expect(here.locator(".original .structure")).to_be_visible()
    mark = page.locator(".mark.here").bounding_box()
    here.get_by_role("button", name="Close").click()
    page.mouse.move(mark["x"] + mark["width"] / 2, mark["y"] + mark["height"] / 2)
    drawn = page.locator(".tip img.structure")
    expect(drawn).to_be_visible()
    loaded = "image => image.complete && image.naturalWidth"
    page.wait_for_function(f"() => ({loaded})(document.querySelector('.tip .structure'))")
    assert drawn.get_attribute("alt").removeprefix("Structure of ") in SMILES

    page.locator("#rail a", has_text="Search").click()
    panel = page.locator(".panel.optimise")
    panel.get_by_label("Calls").fill("10")
    panel.get_by_role("button", name="Search").click()
    expect(panel.locator("svg.chart")).to_have_count(2)
    expect(panel.locator(".key")).to_have_text(
        ["the search", "random search", "texts of the data"]
    )
    expect(panel.locator(".item .value").first).to_be_visible()
