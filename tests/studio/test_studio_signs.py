"""A signs report in the studio: it shows what the tables hold, and writes decisions to them."""

from __future__ import annotations

import csv
import io
import shutil
from itertools import chain

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from tiny_runs import HERE

from isthmus.errors import IsthmusError
from isthmus.signs.analysis import analyse
from isthmus.signs.page import write
from isthmus.signs.scores import principal
from isthmus.studio.server import make_signs
from isthmus.studio.signs import Report, is_report


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Four shapes, four drawings each; "a" and "b" are one shape, "c" is two."""
    from isthmus.signs.inscriptions import Signs

    generator = np.random.default_rng(0)
    exact = np.kron(generator.random((4, 8, 8)) < 0.4, np.ones((8, 8)))
    shape_of = [shape for shape in range(4) for _ in range(4)]
    names = ["a", "a", "b", "b"] + ["c"] * 8 + ["d"] * 4
    drawn = np.clip(exact[shape_of] + generator.normal(0, 0.05, (16, 64, 64)), 0, 1)
    files = tuple(f"drawing <{n}>" for n in range(16))
    signs = Signs(drawn.astype(np.float32), (np.arange(16),), files, tuple(names), "planted")
    folder = tmp_path_factory.mktemp("signs") / "report"
    write(analyse(signs, principal(signs.pictures, 6), "PCA", clusters=4, seeds=2), folder)
    return folder, signs


@pytest.fixture
def report(written, tmp_path):
    shutil.copytree(written[0], tmp_path / "report")
    return tmp_path / "report"


@pytest.fixture
def client(report):
    with TestClient(make_signs(Report(str(report))), base_url=HERE) as client:
        yield client


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_its_content_is_that_of_the_tables(client, report):
    assert is_report(str(report))
    assert client.get("/api/run").json()["can"]["signs"]
    content = client.get("/api/signs").json()
    assert content["summary"]["pictures"] == 16
    clusters = {each["cluster"]: each["pictures"] for each in content["clusters"]}
    signs = rows(report / "signs.csv")
    assert sorted(chain(*clusters.values())) == sorted(row["picture"] for row in signs)
    merges = [each for each in content["candidates"] if each["kind"] == "merge"]
    table = rows(report / "merges.csv")
    assert len(merges) == content["merges"] == len(table)
    for merge, row in zip(merges, table, strict=True):
        assert merge["names"] == [row[p] for p in ("first", "second", "third") if row[p]]
        assert merge["score"] == float(row["distance"])
        assert set(merge["pictures"]) <= set(clusters[row["cluster"]])
    assert ["a", "b"] in [sorted(merge["names"]) for merge in merges]
    [split] = [each for each in content["candidates"] if each["kind"] == "split"]
    assert split["names"] == ["c"]
    assert sorted(len(part["pictures"]) for part in split["parts"]) == [4, 4]


def test_pictures_are_those_that_were_drawn(client, written):
    _, signs = written
    for place in (0, 7, 15):
        given = client.get("/api/signs/picture", params={"id": signs.files[place]})
        assert given.headers["content-type"] == "image/png"
        values = np.asarray(Image.open(io.BytesIO(given.content))).astype(float)
        np.testing.assert_allclose(values, 255 * (1 - signs.pictures[place]), atol=0.51)


def test_decisions_go_into_the_tables_and_the_sign_list_follows(client, report):
    candidates = client.get("/api/signs").json()["candidates"]
    [pair] = [each for each in candidates if sorted(each["names"]) == ["a", "b"]]
    [split] = [each for each in candidates if each["kind"] == "split"]
    before = rows(report / "merges.csv")
    for candidate, word in ((pair, "merge"), (split, "split")):
        body = {"id": candidate["id"], "decision": word}
        answer = client.post("/api/signs/decide", json=body)
        assert answer.status_code == 200
        assert (answer.json()["id"], answer.json()["decision"]) == (candidate["id"], word)
    after = rows(report / "merges.csv")
    changed = [n for n, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert changed == [int(pair["id"].removeprefix("merge-")) - 1]
    assert after[changed[0]] == {**before[changed[0]], "decision": "merge"}
    decided = {c["id"]: c["decision"] for c in client.get("/api/signs").json()["candidates"]}
    assert decided[pair["id"]] == "merge"
    applied = client.post("/api/signs/apply", json={}).json()
    assert applied["path"] == str(report / "signlist.csv")
    assert (applied["pictures"], applied["signs"]) == (16, 4)  # a = b, c/1, c/2, d
    assert applied["command"] == f"isthmus signs apply {report}"
    body = {"id": pair["id"], "decision": ""}
    assert client.post("/api/signs/decide", json=body).status_code == 200
    assert rows(report / "merges.csv") == before
    assert not list(report.glob(".*"))


def test_a_decision_by_the_code_that_is_shown(client, report):
    python = client.post("/api/signs/decide", json={"id": "split-1", "decision": "keep"}).json()
    client.post("/api/signs/decide", json={"id": "split-1", "decision": ""})
    exec(python["python"], {})
    assert rows(report / "splits.csv")[0]["decision"] == "keep"


def test_a_spreadsheet_s_semicolons_stay(client, report):
    path = report / "merges.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(",", ";"), encoding="utf-8")
    answer = client.post("/api/signs/decide", json={"id": "merge-1", "decision": "keep"})
    assert answer.status_code == 200
    first, second = path.read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith("decision;first")
    assert second.startswith("keep;")


def test_decisions_that_contradict_each_other(client, report):
    candidates = client.get("/api/signs").json()["candidates"]
    [pair] = [each for each in candidates if sorted(each["names"]) == ["a", "b"]]
    client.post("/api/signs/decide", json={"id": pair["id"], "decision": "keep"})
    path = report / "merges.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = lines[int(pair["id"].removeprefix("merge-"))]
    with path.open("a", encoding="utf-8") as file:
        file.write(kept.replace("keep", "merge", 1))
    answer = client.post("/api/signs/apply", json={})
    assert answer.status_code == 400
    assert "contradict" in answer.json()["error"]
    assert not (report / "signlist.csv").exists()


@pytest.mark.parametrize(
    "body",
    [
        {"id": "merge-0", "decision": "merge"},
        {"id": "merge-99999", "decision": "merge"},
        {"id": "merge-1", "decision": "split"},
        {"id": "split-1", "decision": "merge"},
        {"id": "split-1", "decision": "=HYPERLINK(1)"},
        {"id": "../signs-1", "decision": "keep"},
        {"id": "merge-١", "decision": "keep"},
        {"id": 1, "decision": "keep"},
        {"id": "merge-1"},
        {},
    ],
    ids=str,
)
def test_what_is_no_decision(client, report, body):
    before = [(report / name).read_bytes() for name in ("merges.csv", "splits.csv", "signs.csv")]
    response = client.post("/api/signs/decide", json=body)
    assert response.status_code in (400, 422)
    assert set(response.json()) == {"error"}
    after = [(report / name).read_bytes() for name in ("merges.csv", "splits.csv", "signs.csv")]
    assert after == before


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "signs.csv", "<script>", "x" * 5000])
def test_only_pictures_of_the_report_are_given(client, name):
    response = client.get("/api/signs/picture", params={"id": name})
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"


def test_a_table_that_cannot_be_written_loses_nothing(report, monkeypatch):
    before = (report / "merges.csv").read_bytes()

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("isthmus.studio.signs.os.fsync", fails)
    with pytest.raises(IsthmusError, match=r"merges.csv: cannot be written \(No space left"):
        Report(str(report)).decide("merge-1", "merge")
    assert (report / "merges.csv").read_bytes() == before


def test_a_folder_that_is_no_report(tmp_path):
    assert not is_report(str(tmp_path))
