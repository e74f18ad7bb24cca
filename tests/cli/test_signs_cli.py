"""isthmus signs: a report from a folder of pictures, decisions, a sign list."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four shapes, four drawings each; "a" and "b" are one shape; one picture is broken."""
    folder = tmp_path_factory.mktemp("signs") / "data"
    folder.mkdir()
    generator = np.random.default_rng(0)
    exact = generator.random((4, 8, 8)) < 0.4
    names, files = [], []
    for shape, name in enumerate(["a", "c", "d", "e"]):
        for drawing in range(4):
            noisy = np.kron(exact[shape], np.ones((8, 8))) * generator.uniform(0.6, 1, (64, 64))
            files.append(f"{name}{drawing}")
            names.append("b" if name == "a" and drawing > 1 else name)
            Image.fromarray(np.uint8(255 * (1 - noisy))).save(folder / f"{files[-1]}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    lines = [" ".join(generator.choice(files, 12)) for _ in range(5)] + [" ".join(files)]
    (folder / "order.txt").write_text("\n".join(lines), encoding="utf-8")
    rows = [f"{file}\t{name}\n" for file, name in zip(files, names, strict=True)]
    (folder / "names.tsv").write_text("".join(rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def reported(isthmus, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("signs") / "report"
    words = ["--clusters", "4", "--seeds", "2", "--components", "6", "--json"]
    result = isthmus("signs", "report", data, "--out", out, *words)
    assert result.code == 0, result.err
    return out, result


def test_the_report_tells_what_it_read_and_found(reported):
    out, result = reported
    found = json.loads(result.out)
    assert (found["pictures"], found["clusters"], found["working_names"]) == (16, 4, 5)
    assert found["skipped"] == {"bad pictures": 1}
    assert "broken.png left out" in result.err
    assert json.loads((out / "summary.json").read_text(encoding="utf-8")) == found
    assert (out / "index.html").read_text(encoding="utf-8").count("<h3>") == 4


def test_decisions_become_a_sign_list(isthmus, reported, data):
    out, _ = reported
    path = out / "merges.csv"
    with path.open(encoding="utf-8", newline="") as file:
        header, row = csv.reader(file)
    assert {row[1], row[2]} == {"a", "b"}
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, ["merge", *row[1:]]])
    result = isthmus("signs", "apply", out)
    assert result.code == 0, result.err
    assert result.out.strip() == str(out / "signlist.csv")
    with (out / "signlist.csv").open(encoding="utf-8", newline="") as file:
        signs = {row["picture"]: row["sign"] for row in csv.DictReader(file)}
    assert len({signs[f"a{drawing}"] for drawing in range(4)}) == 1
    assert signs["c0"] == "c"
    again = isthmus("signs", "report", data, "--out", out)
    assert again.code == 1
    assert "holds decisions" in again.err


def test_codes_of_a_model(isthmus, data, tmp_path):
    np.savez(tmp_path / "codes.npz", codes=np.repeat(np.eye(4), 4, axis=0))
    words = ["--codes", tmp_path / "codes.npz", "--clusters", "4", "--seeds", "2", "--json"]
    for method in ("ward", "hdbscan"):
        out = tmp_path / method
        result = isthmus("signs", "report", data, "--out", out, *words, "--method", method)
        assert result.code == 0, result.err
        found = json.loads(result.out)
        assert (found["codes"], found["clusters"]) == ("codes.npz", 4)
        assert found["mean_confidence"] == 1
        assert found["number_of_signs"] is None  # four different codes are too few to ask
    np.savez(tmp_path / "codes.npz", codes=np.eye(4))
    result = isthmus("signs", "report", data, "--out", tmp_path / "none", *words)
    assert result.code == 1
    assert "expected numbers [16 P]" in result.err
    assert not (tmp_path / "none").exists()


def test_what_people_read(isthmus, data, tmp_path):
    out = tmp_path / "report"
    result = isthmus("signs", "report", data, "--out", out, "--by-token", "--seeds", "2")
    assert result.code == 0, result.err
    first, interval, *reasons = result.out.splitlines()
    assert first == str(out / "index.html")
    assert interval.startswith("between ")
    assert [line.partition(":")[0] for line in reasons[:3]] == ["BIC", "stability", "gap"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--out: give the folder"),
        (["--out", "x", "--seeds", "1"], "seeds: got 1, expected at least 2"),
        (["--out", "x", "--components", "0"], "components: got 0, expected at least 1"),
        (["--out", "x", "--clusters", "99"], "clusters: got 99, expected a number from 1 to 16"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(
    isthmus, data, words, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result = isthmus("signs", "report", data, *words)
    assert result.code == 1
    assert message in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "x").exists()


def test_absent_folders(isthmus, tmp_path):
    assert "expected an .npz file" in isthmus("signs", "report", tmp_path / "no", "--out", "x").err
    result = isthmus("signs", "apply", tmp_path)
    assert result.code == 1
    assert "signs.csv cannot be read" in result.err


def test_a_network_is_trained_and_its_runs_agree_in_the_report(isthmus, data, tmp_path):
    small = "--train.steps 6 --train.network.side 8 --train.network.hidden-size 2 --train.states 6"
    runs = [tmp_path / f"run{seed}" for seed in range(2)]
    for seed, run in enumerate(runs):
        words = ["--out", run, *small.split(), "--train.seed", seed]
        result = isthmus("signs", "train", data, *words)
        assert result.code == 0, result.err
        assert result.out.strip() == str(run)
    words = ["--clusters", "4", "--seeds", "2", "--json", "--codes", *runs]
    result = isthmus("signs", "report", runs[0], "--out", tmp_path / "report", *words)
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert (found["codes"], found["further_codes"]) == ("run0", ["run1"])
    with (tmp_path / "report" / "merges.csv").open(encoding="utf-8", newline="") as file:
        agreements = [float(row["agreement"]) for row in csv.DictReader(file)]
    assert agreements
    assert all(0 < each <= 1 for each in agreements)
    again = isthmus("signs", "train", data, "--out", runs[0])
    assert again.code == 1
    assert "exists already" in again.err
