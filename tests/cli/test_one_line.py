"""One line per text, whatever a text holds; and what is said of texts that are the same."""

import json

import pytest

import isthmus as package
from isthmus.data.corpus import read

TEXTS = ["one small\nred ball", "two\tred balls", "one blue box\r\nhere", "a ball"]
BACK = [r"one small\nred ball", r"two\tred balls", r"one blue box\r\nhere", "a ball"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    path = tmp_path_factory.mktemp("odd") / "odd.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


@pytest.mark.parametrize(
    ("verb", "words", "lines"),
    [
        ("cluster", ["--clusters", "2"], 4),
        ("neighbours", ["a ball"], 4),
        ("reconstruct", [], 8),
        ("interpolate", None, 7),
        ("traverse", None, 7),
    ],
)
def test_a_text_is_printed_on_one_line(isthmus, run, odd, verb, words, lines):
    ends = TEXTS[:2] if verb == "interpolate" else TEXTS[:1]
    result = isthmus(verb, run, *([odd, *words] if words is not None else ends))
    assert result.code == 0, result.err
    assert len(result.out.splitlines()) == lines
    if words is not None:
        assert all(text in result.out for text in BACK)


def test_clusters_are_a_table_that_can_be_read_back(isthmus, run, odd, tmp_path):
    result = isthmus("cluster", run, odd, "--clusters", "2")
    (tmp_path / "clusters.tsv").write_text(result.out)
    found = read(str(tmp_path / "clusters.tsv"))
    assert found.texts == BACK
    assert set(found.labels or []) == {"0", "1"}


def test_clusters_of_equal_texts_say_so_in_one_line(isthmus, run, tmp_path, recwarn):
    (tmp_path / "same.txt").write_text("a ball\n" * 6)
    result = isthmus("cluster", run, tmp_path / "same.txt", "--clusters", "3")
    assert "1 of 3 clusters have examples: too few examples differ" in result.err
    assert not [one for one in recwarn if "distinct clusters" in str(one.message)]


@pytest.mark.parametrize("stdin", [b"\xef\xbb\xbfa ball\r\na box\r\n", b"a ball\na box"])
def test_standard_input_is_read_as_a_file_is(isthmus, run, stdin):
    result = isthmus("reconstruct", run, "-", "--json", stdin=stdin)
    assert [json.loads(line)["text"] for line in result.out.splitlines()] == ["a ball", "a box"]


@pytest.mark.parametrize("labels", [["rating=1", "rating=5"], ["a=b", "c"]])
def test_a_label_that_no_code_can_be_is_refused_before_the_first_step(
    isthmus, recipe, tmp_path, labels
):
    data, out = tmp_path / "codes.tsv", tmp_path / "run"
    data.write_text("".join(f"{labels[n % 2]}\tone red ball {n}\n" for n in range(30)))
    words = ["--recipe", recipe, "--model.kind", "language-model", "--model.labels", "given"]
    result = isthmus("train", data, *words, "--out", out)
    assert result.code == 1
    assert f"codes: got {labels[0]!r}, expected a name without" in result.err
    assert not out.exists()


def test_an_error_is_one_line():
    assert str(package.IsthmusError("a\nb\tc")) == r"a\nb\tc"
