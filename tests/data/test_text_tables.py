"""Headers, separators, labels and names of splits, in the forms in which people have them."""

import json
import math

import pyarrow
import pyarrow.parquet
import pytest

from isthmus.data.corpus import read, read_splits
from isthmus.data.labelled import label_index
from isthmus.errors import IsthmusError

TWO = (["great food", "cold room"], ["5", "1"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sst2.tsv", "sentence\tlabel\ngreat food\t5\ncold room\t1\n"),
        ("pandas.csv", "Unnamed: 0,text,label\n0,great food,5\n1,cold room,1\n"),
        ("index.csv", ",text,label\n0,great food,5\n1,cold room,1\n"),
        ("space.csv", "text,label,user id\ngreat food,5,12\ncold room,1,13\n"),
        ("words.csv", "Review Text,Rating\ngreat food,5\ncold room,1\n"),
        ("dash.tsv", "text\tlabel\tuser-id\ngreat food\t5\t7\ncold room\t1\t8\n"),
        ("case.tsv", "Label\tText\n5\tgreat food\n1\tcold room\n"),
        ("snake.csv", "id,review_text,label\n0,great food,5\n1,cold room,1\n"),
        ("other.csv", "label,Was sagen Sie?\n5,great food\n1,cold room\n"),
        ("twice.csv", "text,label\ngreat food,5\ntext,label\ncold room,1\n"),
        ("semicolon.csv", "label;text\n5;great food\n1;cold room\n"),
        ("tab.csv", "text\tlabel\ngreat food\t5\ncold room\t1\n"),
        ("bar.csv", "text|label\ngreat food|5\ncold room|1\n"),
        ("excel.csv", "sep=;\r\ntext;label\r\ngreat food;5\r\ncold room;1\r\n"),
        ("blank.csv", "\ntext;label\ngreat food;5\ncold room;1\n"),
        ("mac.tsv", "label\ttext\r5\tgreat food\r1\tcold room\r"),
    ],
)
def test_a_known_name_makes_a_header_and_tells_the_separator(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    found = read(str(tmp_path / name))
    assert (found.texts, found.labels) == TWO
    skipped = {"twice.csv": {"repeated headers": 1}, "blank.csv": {"empty lines": 1}}
    assert found.skipped == skipped.get(name, {})


def test_a_label_with_the_name_of_a_column_is_a_label(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("topic\tone thing\nintent\tanother\ntopic\ta third\nintent\ta fourth\n")
    assert read(str(path)).labels == ["topic", "intent", "topic", "intent"]


def test_columns_that_are_not_read_are_named(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,sentence,score\n7,one,2\n")
    assert read(str(path)).notes == ["columns by header: text = sentence; not used: id, score"]
    assert read(str(path)).labels is None


ROWS = [("great food and staff", "1"), ("a cold room", "0"), ("he left", "0"), ("so good", "1")]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("swapped.tsv", "".join(f"{t}\t{n}\n" for t, n in ROWS), "expected the label first"),
        ("pair.tsv", "great food\t1\ncold room\t0\n", "expected the label first"),
        ("swapped.csv", "".join(f"{t},{n}\n" for t, n in ROWS), "expected the label first"),
        ("none.csv", "great;good food\nbad;cold room\n", "';' seems to separate the columns"),
        ("mixed.csv", "a;b, c\nd;e\na;f\n", "';' seems to separate the columns"),
        ("tabs.csv", "good\tfine food\nbad\tcold\n", r"'\t' seems to separate the columns"),
        ("commas.tsv", "text,label\nfine,1\n", "',' separates the columns, expected a tab"),
        ("two.csv", "text,text\na,b\n", "not clear which of the columns text, text"),
        ("nli.tsv", "sentence1\tsentence2\tlabel\na\tb\t1\n", "sentence1, sentence2, label"),
        ("ids.csv", "id,label\n1,2\n", "not clear which of the columns id, label"),
        ("long.csv", "rating,he did not like what he saw there\n1,b\n", "not clear which"),
        ("three.tsv", "text\tlabel\na\t1\nb\tNone\n", "first at line 3 (None)"),
    ],
)
def test_a_table_that_could_be_read_wrongly_gets_one_line(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(IsthmusError) as caught:
        read(str(tmp_path / name))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_for_nearly_every_text_is_warned_of(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("text,label\n" + "".join(f"a text {n},code {n}\n" for n in range(12)))
    [line] = read(str(path)).warnings
    assert "12 different labels of 12 sentences" in line


@pytest.mark.parametrize(
    ("given", "label"),
    [
        *((" positive ", "positive"), (1, "1"), (1.0, "1"), ("1.0", "1"), ("1.50", "1.50")),
        *((True, "True"), (-2.0, "-2"), ("007", "007"), ("1.0 stars", "1.0 stars")),
        *((math.nan, None), (None, None), ("", None), (" ", None), ("NaN", None), ("None", None)),
        *(("none", "none"), (0, "0"), (math.inf, "inf")),
    ],
)
def test_one_label_has_one_name_in_every_form(tmp_path, given, label):
    record = json.dumps({"text": "a", "label": given}) + '\n{"text": "b", "label": null}\n'
    (tmp_path / "x.jsonl").write_text(record)
    if label is None:
        assert read(str(tmp_path / "x.jsonl")).labels is None
        return
    (tmp_path / "x.jsonl").write_text(record.splitlines()[0])
    (tmp_path / "x.csv").write_text(f"label,text\n{given},a\n")
    forms = ["x.jsonl", "x.csv"]
    if not isinstance(given, str):
        pyarrow.parquet.write_table(
            pyarrow.table({"text": ["a"], "label": [given]}), tmp_path / "x.parquet"
        )
        forms.append("x.parquet")
    assert [read(str(tmp_path / form)).labels for form in forms] == [[label]] * len(forms)
    assert label_index(str(given), ["other", label]) == 1


@pytest.mark.parametrize(
    "line",
    [
        '{"sentence": "a", "id": 1}',
        '{"Text": "a"}',
        ' {"label": null , "text" : "\\u0061"} ',
        '{"text": "b", "text": "a"}',
        '{"text": "a", "number": ' + "1" * 5000 + "}",
        '{"text": "a", "meta": {"text": ["b"]}}',
    ],
)
def test_a_valid_record_is_read(tmp_path, line):
    path = tmp_path / "x.jsonl"
    path.write_text(line + "\r\n")
    assert (read(str(path)).texts, read(str(path)).labels) == (["a"], None)


@pytest.mark.parametrize("valid", ["val", "Valid", "VALIDATION", "Dev"])
@pytest.mark.parametrize("form", ["{}.txt", "{}-1-of-1.txt.gz", "{}/part.txt"])
def test_splits_have_their_common_names(tmp_path, valid, form):
    import gzip

    for name in ("Training", valid, "testing"):
        path = tmp_path / form.format(name)
        path.parent.mkdir(exist_ok=True)
        lines = f"one of {name}\ntwo of {name}\n".encode()
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    found = read_splits(str(tmp_path))
    assert found.train.texts == ["one of Training", "two of Training"]
    assert found.valid.texts[0] == f"one of {valid}"
    assert found.test is not None
    assert found.test.texts[1] == "two of testing"
    assert not found.train.warnings


def test_what_a_folder_holds_besides_its_splits_is_named(tmp_path):
    for name in ("train/a.txt", "train/notes.md", "train/pos/b.txt", "val.txt", "more.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("one\ntwo\n")
    (tmp_path / ".hidden").write_text("")
    [line] = read_splits(str(tmp_path)).train.warnings
    assert line.endswith("more.txt, train/notes.md, train/pos/")
    assert read(str(tmp_path)).warnings == [line]
