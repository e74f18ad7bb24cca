"""Vectors of texts: every form is read alike, rows go to their texts, mistakes are one line."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from isthmus.data.corpus import read, read_splits
from isthmus.data.vectors import Embedded, as_vectors, embedded, read_vectors
from isthmus.errors import IsthmusError

ROWS = np.arange(1.0, 13.0, dtype=np.float32).reshape(4, 3)
IDS = ["d", "a", "c", "b"]


def written(folder, form, rows=ROWS, ids=None):
    """A file of vectors in a form."""
    path = folder / f"vectors{form}"
    columns = {"embedding": [row.tolist() for row in rows]} | ({"id": ids} if ids else {})
    if form == ".npy":
        np.save(path, rows)
    elif form == ".npz":
        np.savez(path, embeddings=rows, **({"ids": np.array(ids)} if ids else {}))
    elif form == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    else:
        rows = zip(*columns.values(), strict=True)
        lines = [dict(zip(columns, row, strict=True)) for row in rows]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("form", [".npy", ".npz", ".parquet", ".jsonl"])
def test_every_form_gives_the_same_rows(tmp_path, form):
    found = read_vectors(str(written(tmp_path, form)))
    assert np.array_equal(found.rows, ROWS)
    assert found.ids is None


def test_rows_of_npy_stay_on_the_disk(tmp_path):
    assert isinstance(read_vectors(str(written(tmp_path, ".npy"))).rows, np.memmap)


@pytest.mark.parametrize("form", [".npz", ".parquet", ".jsonl"])
@pytest.mark.parametrize("texts", [".csv", ".jsonl"])
def test_ids_find_the_vector_of_each_text(tmp_path, form, texts):
    path = tmp_path / f"texts{texts}"
    order = [2, 0, 3, 1]  # texts are in another order than vectors, and one is empty
    if texts == ".csv":
        path.write_text("id,text\nx,\n" + "".join(f"{IDS[n]},text {n}\n" for n in order))
    else:
        records = [{"id": "x", "text": " "}, *({"id": IDS[n], "text": f"text {n}"} for n in order)]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    corpus = read(path, embeddings=str(written(tmp_path, form, ids=IDS)))
    assert corpus.texts == [f"text {n}" for n in order]
    assert [text.vector.tolist() for text in corpus.texts] == ROWS[order].tolist()


def test_whole_numbers_as_ids_match_across_formats(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text("id,text\n3,c\n1,a\n2,b\n0,z\n")
    vectors = tmp_path / "v.npz"
    np.savez(vectors, vectors=ROWS, id=np.array([0.0, 1.0, 2.0, 3.0]))
    corpus = read(path, embeddings=str(vectors))
    assert [text.vector[0] for text in corpus.texts] == [10, 4, 7, 1]


def test_a_corpus_keeps_vectors_through_limits_samples_and_splits(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("one\ntwo\nthree\nfour\n")
    given = str(written(tmp_path, ".npy"))
    splits = read_splits(str(path), valid_fraction=0.25, embeddings=given)
    both = [*splits.train.texts, *splits.valid.texts, *read(path, embeddings=given).sample(2, 0)
            .texts]  # fmt: skip
    want = dict(zip(["one", "two", "three", "four"], ROWS.tolist(), strict=True))
    assert all(text.vector.tolist() == want[text] for text in both)
    assert len(splits.train) == 3
    assert len(read(path, limit=2, embeddings=given)) == 2


def test_a_folder_has_vectors_for_each_split(tmp_path):
    texts, vectors = tmp_path / "texts", tmp_path / "vectors"
    texts.mkdir()
    vectors.mkdir()
    for place, split in enumerate(("train", "valid")):
        (texts / f"{split}.txt").write_text("one\ntwo\nthree\nfour\n")
        np.save(vectors / f"{split}.npy", ROWS + place)
    splits = read_splits(str(texts), embeddings=str(vectors))
    assert splits.train.texts[0].vector[0] == 1
    assert splits.valid.texts[0].vector[0] == 2
    (texts / "test.txt").write_text("one\n")
    with pytest.raises(IsthmusError, match=r"no vectors of test, expected test\.npy"):
        read_splits(str(texts), embeddings=str(vectors))


def test_the_fingerprint_covers_the_vectors(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("one\ntwo\nthree\nfour\n")
    one = read(path, embeddings=str(written(tmp_path, ".npy"))).fingerprint
    other = read(path, embeddings=str(written(tmp_path, ".npy", ROWS + 1))).fingerprint
    assert len({one, other, read(path).fingerprint}) == 3


def test_a_text_with_a_vector_is_that_text_and_survives_copies():
    [text] = embedded(["a dog"], [[0.6, 0.8]])
    assert text == "a dog"
    assert {text: 1}["a dog"] == 1
    for again in (copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
        assert isinstance(again, Embedded)
        assert again.vector.tolist() == [0.6, 0.8]


def test_tensors_and_lists_are_vectors():
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(ROWS, dtype=torch.bfloat16, requires_grad=True)
    for given in (ROWS, ROWS.tolist(), tensor):
        assert np.array_equal(as_vectors(given).rows, ROWS)


def broken(**changes):
    rows = ROWS.copy()
    for place, value in changes.items():
        rows[int(place[1:])] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (broken(r2=np.nan), "1 of 4 vectors hold NaN or infinity, the first is row 3"),
        (broken(r0=np.inf, r1=np.nan), "2 of 4 vectors hold NaN or infinity, the first is row 1"),
        (broken(r3=0), "1 of 4 vectors are all zeros, the first is row 4"),
        (ROWS[:3], "has 3 vectors for the 4 texts"),
        (ROWS[0], r"got an array of shape \[3\], expected vectors in rows"),
        (np.array([["a", "b"]] * 4), "expected numbers"),
    ],
)
def test_what_is_no_vector_is_one_line(tmp_path, rows, message):
    path = tmp_path / "texts.txt"
    path.write_text("one\ntwo\n\nthree\nfour\n")
    np.save(tmp_path / "vectors.npy", rows)
    with pytest.raises(IsthmusError, match=message) as error:
        read(path, embeddings=str(tmp_path / "vectors.npy"))
    assert "\n" not in str(error.value)


def test_pickled_arrays_are_refused(tmp_path):
    np.save(tmp_path / "v.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(IsthmusError, match="pickled objects, which are never read"):
        read_vectors(str(tmp_path / "v.npy"))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a", "b", "c", "e"], "1 of the 4 texts .* the first has the id 'd'"),
        (["a", "b", "c", "a"], "several vectors of the id 'a'"),
    ],
)
def test_ids_that_do_not_match_are_one_line(tmp_path, ids, message):
    path = tmp_path / "texts.csv"
    path.write_text("id,text\n" + "".join(f"{name},text\n" for name in "abcd"))
    with pytest.raises(IsthmusError, match=message):
        read(path, embeddings=str(written(tmp_path, ".npz", ids=ids)))


def test_a_column_is_named_where_several_could_be_meant(tmp_path):
    path = tmp_path / "v.npz"
    np.savez(path, small=ROWS, large=10 * ROWS)
    with pytest.raises(IsthmusError, match="2 columns of vectors"):
        read_vectors(str(path))
    assert read_vectors(f"{path}:large").rows[0, 0] == 10
    with pytest.raises(IsthmusError, match="no column 'middle', only small, large"):
        read_vectors(f"{path}:middle")


@pytest.mark.parametrize("name", ["none.npy", "texts.txt"])
def test_missing_files_and_unknown_forms_are_one_line(tmp_path, name):
    (tmp_path / "texts.txt").write_text("one\n")
    with pytest.raises(IsthmusError, match=r"does not exist|unknown format"):
        read_vectors(str(tmp_path / name))
