"""``isthmus optimise`` from end to end."""

import json
import re
from pathlib import Path

import pytest

import isthmus as package
from isthmus.commands.optimise import imported
from isthmus.errors import IsthmusError

pytest.importorskip("cma", reason="cma is not installed: pip install 'isthmus[optimise]'")
OBJECTIVES = """
import sys
ASKED = []

def vowels(text):
    ASKED.append(text)
    if text.count(" ") == 5:
        raise ValueError("six words")
    return sum(letter in "aeiou" for letter in text)

nothing = lambda text: None
number = 3
"""


def rows(result):
    assert result.code == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()]


@pytest.fixture
def objective(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OBJECTIVES, encoding="utf-8")
    return f"{path}:vowels"


def test_the_best_texts_their_figures_and_a_picture(isthmus, run, corpus, tmp_path, objective):
    out = tmp_path / "found"
    data = corpus / "train.tsv"
    words = ["optimise", run, "--objective", objective, "--out", out, "--data", data]
    *best, figures = rows(isthmus(*words, "--calls", "12", "--seeds", "2", "--json"))
    assert len({row["text"] for row in best}) == len(best) == 10
    assert [row["value"] for row in best] == sorted((row["value"] for row in best), reverse=True)
    assert all(row["value"] == sum(one in "aeiou" for one in row["text"]) for row in best)
    texts = {line.split("\t")[1] for line in data.read_text().splitlines()}
    assert all(row["new"] == (row["text"] not in texts) for row in best)
    assert figures["seeds"] == 2
    assert figures["search_calls"] == figures["random_calls"] == 12
    gain = figures["search_ten_best"] - figures["random_ten_best"]
    assert figures["gain_over_random"] == pytest.approx(gain)
    assert figures["gain_over_random_se"] > 0
    assert json.loads((out / "figures.json").read_text()) == figures
    assert (out / "way.png").read_bytes()[:4] == b"\x89PNG"
    decoded = isthmus("decode", run, out / "search-0.jsonl", "--json", "--max-new-tokens", "24")
    lines = [json.loads(line) for line in (out / "search-0.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows(decoded)] == [line["text"] for line in lines]

    refused = isthmus(*words, "--calls", "12")
    assert "continue it with --resume" in refused.err
    more = isthmus(*words, "--calls", "15", "--seeds", "2", "--resume")
    assert re.search(r"the search .* 15 ± 0 ", more.out), more.out
    other = isthmus(*words, "--resume", "--seed", "1")
    assert "its search differ" in other.err


def test_in_python_nothing_is_written_unless_asked(run, tmp_path):
    space = package.Space.load(run)
    found = space.optimise(len, calls=12, compare=False)
    assert list(found.runs[0]) == ["search"]
    assert found.best(1)[0].value == max(call.value for call in found.runs[0]["search"])
    again = package.optimise(space, len, calls=12, compare=False, folder=tmp_path / "kept")
    assert again.runs == found.runs
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["search-0.jsonl"]


def test_what_is_no_objective_is_refused_in_one_line(isthmus, run, tmp_path, objective):
    file = objective.rpartition(":")[0]
    for name, said in {
        "mine": "expected MODULE:FUNCTION",
        "no_such_module:f": "no_such_module cannot be imported",
        f"{tmp_path}/none.py:f": "cannot be imported",
        f"{file}:number": "has no function 'number'; it has vowels, nothing",
    }.items():
        with pytest.raises(IsthmusError, match=re.escape(said)):
            imported(name)
    words = ["--objective", f"{file}:nothing", "--out", tmp_path / "out", "--calls", "5"]
    result = isthmus("optimise", run, *words)
    assert result.code == 1
    assert "no value for any of 5 texts" in result.err.splitlines()[-1]


def test_the_examples_are_objectives():
    place = Path(__file__).parents[2] / "examples" / "objectives.py"
    assert imported(f"{place}:length")("one small ball") == 3
    assert imported(f"{place}:keywords")("one small ball") == pytest.approx(1 / 3)
    pytest.importorskip("rdkit", reason="RDKit is not installed: pip install 'isthmus[molecules]'")
    qed, logp = imported(f"{place}:qed"), imported(f"{place}:penalised_logp")
    assert qed("CC(=O)Oc1ccccc1C(=O)O") == pytest.approx(0.5501, abs=1e-4)  # of the paper: aspirin
    assert logp("C1CCCCCCC1") < logp("C1CCCCC1")  # a ring of eight atoms costs two
    assert qed("c1ccc") is logp("c1ccc") is qed("") is None
