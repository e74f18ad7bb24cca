"""Readers: every form of DATA, every line of error, and what is held out."""

import gzip
import json
import logging
from collections import Counter
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.data import corpus
from isthmus.data.corpus import TextCorpus, read, read_splits
from isthmus.data.files import READERS, Reader
from isthmus.data.kind import sampled
from isthmus.errors import IsthmusError

TEXTS = ["a cat sat", "the dog, too", "é ∂ 猫 \u2028 \x85 one line"]
LABELS = ["0", "1", "0"]


def encode(form: str) -> bytes:
    pairs = list(zip(LABELS, TEXTS, strict=True))
    if form == ".parquet":
        sink = pyarrow.BufferOutputStream()
        table = pyarrow.table({"id": [1, 2, 3], "text": TEXTS, "label": [0, 1, 0]})
        pyarrow.parquet.write_table(table, sink)
        return sink.getvalue().to_pybytes()
    lines = {
        ".txt": TEXTS,
        ".tsv": [f"{label}\t{text}" for label, text in pairs],
        ".csv": ["label,text", *(f'{label},"{text}"' for label, text in pairs)],
        ".jsonl": [json.dumps({"text": text, "label": int(label)}) for label, text in pairs],
    }[form]
    return ("\n".join(lines) + "\n").encode()


def write(path: Path, content: bytes | str) -> str:
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("form", [".txt", ".tsv", ".csv", ".jsonl", ".parquet"])
def test_every_form_gives_the_same_texts_and_labels(tmp_path, form, gz):
    found = read(write(tmp_path / f"data{form}{gz}", encode(form)))
    assert found.texts == TEXTS
    assert found.labels == (None if form == ".txt" else LABELS)
    assert found.skipped == {}


@pytest.mark.parametrize("form", [".txt", ".tsv", ".csv", ".jsonl"])
def test_windows_line_ends_and_a_byte_order_mark_change_nothing(tmp_path, form):
    content = b"\xef\xbb\xbf" + encode(form).replace(b"\n", b"\r\n")
    assert read(write(tmp_path / f"data{form}", content)).texts == TEXTS


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"))))
def test_text_lines_are_kept_or_counted(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("lines") / "data.txt"
    write(path, "x\n" + "".join(line + "\n" for line in lines))
    found = read(str(path))
    assert found.texts == ["x", *(line for line in lines if line.strip())]
    assert len(found) + found.skipped.get("empty lines", 0) == len(lines) + 1


def test_a_last_line_without_line_end_is_read(tmp_path):
    found = read(write(tmp_path / "data.txt", "one\n\ntwo"))
    assert found.texts == ["one", "two"]
    assert found.report().endswith("data.txt: 2 sentences; skipped 1 empty line")


@pytest.mark.parametrize(
    ("name", "content", "texts", "labels"),
    [
        ("one_column.tsv", "one\ntwo\n", ["one", "two"], None),
        ("words.tsv", "good\tgreat\nbad\tpoor\n", ["great", "poor"], ["good", "bad"]),
        ("header.tsv", "label\ttext\n1\tone\n", ["one"], ["1"]),
        ("swapped.tsv", "text\tlabel\none\t1\n", ["one"], ["1"]),
        ("named.tsv", "id\ttext\tlabel\n7\tone\t1\n", ["one"], ["1"]),
        ("topic.csv", "topic,text\nsport,one\n", ["one"], ["sport"]),
        ("unlabelled.csv", "id,text,score\n7,one,2\n", ["one"], None),
        ("pair.csv", '"1","one, two"\n"2","three"\n', ["one, two", "three"], ["1", "2"]),
        ("news.csv", '"3","A title","Its ""body"""\n', ['A title Its "body"'], ["3"]),
        ("within.csv", 'label,text\n1,"two\nlines"\n', ["two\nlines"], ["1"]),
        ("plain.csv", "text\none\n", ["one"], None),
        ("null.jsonl", '{"text": "one", "label": null}\n', ["one"], None),
    ],
)
def test_columns(tmp_path, name, content, texts, labels):
    found = read(write(tmp_path / name, content))
    assert found.texts == texts
    assert found.labels == labels


def test_decisions_about_columns_are_reported(tmp_path):
    news = read(write(tmp_path / "news.csv", '"3","A title","Its body"\n'))
    assert "column 1 is the label, columns 2 to 3 joined are the text" in news.report()
    named = read(write(tmp_path / "named.csv", "topic,text\nsport,one\n"))
    assert "columns by header: text, label = topic" in named.report()


def test_everything_skipped_has_a_reason(tmp_path):
    found = read(write(tmp_path / "data.tsv", "1\tone\n\n1\t \n \n0\ttwo\n"))
    assert found.skipped == {"empty lines": 2, "empty texts": 1}
    lines = '{"text": null}\n{"text": "one"}\n{"text": " "}\n\n'
    found = read(write(tmp_path / "data.jsonl", lines))
    assert found.skipped == {"missing texts": 1, "empty lines": 2}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.txt", "", ["is empty", "0 bytes"]),
        ("empty.txt.gz", "", ["is empty"]),
        ("bom.txt", b"\xef\xbb\xbf", ["has no text"]),
        ("blank.txt", "\n \n\t\n", ["has no text", "3 empty lines"]),
        ("latin.txt", b"one\ncaf\xe9 au lait\n", ["line 2", "0xe9", "column 4", "iconv"]),
        ("nul.txt", b"one\ntwo\nth\0ree\n", ["line 3", "NUL byte"]),
        ("utf16.txt", "one\ntwo".encode("utf-16"), ["line 1", "NUL byte", "UTF-16"]),
        ("some.tsv", "1\tone\ntwo\nthree\n", ["2 of 3 texts have no label", "line 2"]),
        ("some.csv", 'label,text\n1,one\n"",two\n', ["1 of 2 texts have no label", "line 3"]),
        ("some.jsonl", '{"text": "a"}\n{"text": "b", "label": 1}\n', ["1 of 2 texts", "line 1"]),
        ("more.tsv", "one\ntwo\tthree\n", ["line 2 has 2 columns", "the first has 1"]),
        ("wide.tsv", "1\ta b\tc d\n", ["3 columns (1, a b, c d)", "label TAB text"]),
        ("wide.csv", "label,text\n1,a,b\n", ["line 2 has 3 columns", "the first has 2"]),
        ("named.tsv", "premise\thypothesis\tgold\n", ["premise, hypothesis, gold", '"text"']),
        ("named.csv", "title,year\nfine,1\n", ["title, year", '"text"']),
        ("quote.csv", '1,"one\n2,two\n', ["not CSV", "unexpected end of data"]),
        ("bad.jsonl", '{"text": "a"}\n{"text": \n', ["line 2 is not JSON"]),
        ("deep.jsonl", "[" * 100_000, ["line 1 is not JSON"]),
        ("list.jsonl", "[1, 2]\n", ["line 1 is not a JSON object"]),
        ("keys.jsonl", '{"body": "a", "id": 3}\n', ['no key "text"', "body, id"]),
        ("type.jsonl", '{"text": 3}\n', ["the text of line 1 is int"]),
        ("label.jsonl", '{"text": "a", "label": [1]}\n', ["the label of line 1 is list"]),
        ("escape.jsonl", r'{"text": "a\u0000"}', ["line 1 has a NUL character"]),
        ("half.jsonl", r'{"text": "a\ud800"}', ["line 1 has half a surrogate pair"]),
        ("not.parquet", "PAR0", ["is not a whole Parquet file"]),
        ("data.docx", "x", ["unknown format", *READERS]),
    ],
)
def test_bad_files_get_one_line(tmp_path, name, content, words):
    path = write(tmp_path / name, content)
    with pytest.raises(IsthmusError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(path)
    assert all(word in message for word in words), message


def test_damaged_gzip(tmp_path):
    path = tmp_path / "data.txt.gz"
    path.write_bytes(b"plain text\n")
    with pytest.raises(IsthmusError, match=r"is not complete gzip data.*drop the \.gz"):
        read(str(path))
    whole = gzip.compress("\n".join(map(str, range(9999))).encode())
    path.write_bytes(whole[:-100])
    with pytest.raises(IsthmusError, match="end too early"):
        read(str(path))
    path.write_bytes(whole[:100] + bytes(100) + whole[200:])
    with pytest.raises(IsthmusError, match="is not complete gzip data"):
        read(str(path))


def test_a_new_reader_is_one_entry_of_the_table(tmp_path, monkeypatch):
    def read_reversed(content, rows):
        for number, line in enumerate(content.decode().splitlines(), start=1):
            rows.add(line[::-1], None, number)

    monkeypatch.setitem(READERS, ".rev", Reader(read_reversed, "(texts backwards)"))
    for place in range(2):
        write(tmp_path / f"train_{place}.rev.gz", "eno\nowt\n")
    write(tmp_path / "valid.rev", "eerht")
    found = read_splits(str(tmp_path))
    assert found.train.texts == ["one", "two"] * 2
    assert found.valid.texts == ["three"]
    with pytest.raises(IsthmusError, match=r"ending in \.txt.* or \.rev \(texts backwards\)"):
        read(write(tmp_path / "data.docx", "x"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(IsthmusError, match=r"formats: .* or \.rev \(texts backwards\)"):
        read(str(tmp_path / "empty"))


def test_parquet_without_texts_names_its_columns(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"body": ["a"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(IsthmusError, match='no column is named "text", only body, n'):
        read(str(tmp_path / "a.parquet"))


def test_a_missing_file_names_its_neighbours(tmp_path):
    write(tmp_path / "reviews.txt", "one\n")
    with pytest.raises(IsthmusError, match=r"does not exist; near it in .*: reviews\.txt"):
        read(str(tmp_path / "review.txt"))
    with pytest.raises(IsthmusError, match=r"does not exist, nor does the folder .*nowhere"):
        read(str(tmp_path / "nowhere" / "reviews.txt"))


def test_a_line_of_ten_megabytes_is_read_whole(tmp_path):
    long = "word " * 2_000_000 + "."
    for form, lines in ((".txt", f"{long}\nb\n"), (".csv", f'1,"{long}"\n2,b\n')):
        assert read(write(tmp_path / f"data{form}", lines)).texts == [long, "b"]


def test_equal_sentences_warn(tmp_path):
    found = read_splits(write(tmp_path / "data.txt", "same\n" * 30))
    assert found.train.warnings == [f"{tmp_path}/data.txt: all 29 sentences are equal"]
    # Not avoidable here, so it must be said.
    assert "texts of valid that are also in train: 1 (kept)" in found.report()
    assert read(write(tmp_path / "two.txt", "same\nother\n")).warnings == []


def test_one_sentence_is_enough_to_evaluate_and_too_few_to_train(tmp_path):
    path = write(tmp_path / "data.txt", "alone\n")
    assert read(path).report().endswith("data.txt: 1 sentence")
    with pytest.raises(IsthmusError, match="one sentence only: training needs at least 2"):
        read_splits(path)
    pair = read_splits(write(tmp_path / "pair.txt", "one\ntwo\n"))
    assert len(pair.train) == len(pair.valid) == 1


def test_a_folder(tmp_path):
    write(tmp_path / "train.tsv.gz", "0\ta\n1\tb\n1\tc\n")
    write(tmp_path / "dev.tsv", "0\ta\n1\td\n")
    write(tmp_path / "test.jsonl", '{"text": "c"}\n{"text": "a"}\n')
    write(tmp_path / "notes.md", "no data")
    found = read_splits(str(tmp_path))
    assert found.train.texts == ["a", "b", "c"]
    assert found.valid.texts == ["a", "d"]
    assert found.test is not None
    assert found.test.texts == ["c", "a"]
    assert found.repeated == {"valid": 1, "test": 2}
    assert read(str(tmp_path)).texts == ["c", "a"]
    assert read(str(tmp_path), split="valid").labels == ["0", "1"]
    write(tmp_path / "train.txt", "a\n")
    with pytest.raises(IsthmusError, match=r"several train files \(train.tsv.gz, train.txt\)"):
        read_splits(str(tmp_path))


SHARDS = {
    "of": ("train-{:05}-of-00012.txt", range(1, 13)),
    "of, from 0": ("train-{:05}-of-00012.txt.gz", range(12)),
    "plain": ("train_{}.txt", range(12)),
    "dotted": ("train.{:03}.txt.gz", range(12)),
    "folder": ("train/part{}.txt", range(12)),
}


@pytest.mark.parametrize("name", SHARDS)
def test_numbered_files_are_one_corpus_in_numeric_order(tmp_path, name):
    form, numbers = SHARDS[name]
    (tmp_path / "train").mkdir()
    for place, number in enumerate(numbers):
        write(tmp_path / form.format(number), f"first of {place}\n\nsecond of {place}\n")
    write(tmp_path / "valid.txt", "v\n")
    found = read_splits(str(tmp_path))
    expected = [f"{which} of {place}" for place in range(12) for which in ("first", "second")]
    assert found.train.texts == expected
    assert found.valid.texts == ["v"]
    report = f"{tmp_path}/train: 24 sentences; skipped 12 empty lines; 12 files"
    assert found.train.report() == report
    few = read(str(tmp_path), split="train", limit=5)
    assert few.texts == expected[:5]
    assert few.notes == ["3 of 12 files (limit)", "the first of 6 (limit)"]


def test_numbered_files_with_labels(tmp_path):
    write(tmp_path / "dev-1.csv", "label,text\n1,one\n")
    write(tmp_path / "dev-2.csv", "label,text\n0,two\n")
    found = read(str(tmp_path))
    assert (found.texts, found.labels) == (["one", "two"], ["1", "0"])
    assert found.notes == ["2 files", "columns by header: text, label = label"]
    write(tmp_path / "dev-2.csv", "text\ntwo\n")
    with pytest.raises(IsthmusError, match=r"only one of .*dev-1.csv and .*dev-2.csv has labels"):
        read(str(tmp_path))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["train_1.txt", "train_2.jsonl"], "train_1.txt and train_2.jsonl are in several formats"),
        (["train_1.txt", "train_01.txt"], "train_01.txt and train_1.txt are the same part"),
        (["train.1.txt", "train-1.txt.gz"], "train-1.txt.gz and train.1.txt are the same part"),
        (["train/a.txt", "train/a.txt.gz"], "a.txt and a.txt.gz are the same part"),
        (["train/1.txt", "train/2.tsv"], "1.txt and 2.tsv are in several formats"),
        (["train.txt", "train.csv"], "several train files (train.csv, train.txt)"),
        (["train.txt", "train_1.txt", "train_2.txt"], "files (train.txt, train_1.txt …)"),
        (["train.txt", "train/1.txt", "train/2.txt"], "files (train.txt, train/1.txt …)"),
        (["dev-1.txt", "valid-2.txt"], "several valid files (valid-2.txt, dev-1.txt)"),
        (["train-0-of-3.txt", "train-1-of-3.txt"], "says that there are 3 files, got 2"),
        (["train-0-of-2.txt", "train-1-of-3.txt"], "says that there are 2 and 3 files, got 2"),
    ],
)
def test_numbered_files_that_are_not_one_corpus(tmp_path, names, words):
    (tmp_path / "train").mkdir()
    for name in names:
        write(tmp_path / name, '{"text": "a"}\n')
    with pytest.raises(IsthmusError) as caught:
        read(str(tmp_path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_that_lack_something(tmp_path):
    with pytest.raises(IsthmusError, match="no train, valid or test file, but no file"):
        read(str(tmp_path))
    write(tmp_path / "train.txt", "a\nb\nc\n")
    assert read(str(tmp_path)).texts == ["a", "b", "c"]
    assert len(read_splits(str(tmp_path)).valid) == 1
    with pytest.raises(IsthmusError, match="has no valid split, only train"):
        read(str(tmp_path), split="valid")
    with pytest.raises(IsthmusError, match='split must be "train", "valid" or "test"'):
        read(str(tmp_path), split="dev")


def test_limit(tmp_path):
    path = write(tmp_path / "data.tsv", "".join(f"{i}\ttext {i}\n" for i in range(10)))
    found = read(path, limit=3)
    assert (found.texts, found.labels) == (["text 0", "text 1", "text 2"], ["0", "1", "2"])
    assert "the first of 10 (limit)" in found.report()
    with pytest.raises(IsthmusError, match="limit must be at least 1, got 0"):
        read_splits(path, limit=0)


@given(
    numbers=st.lists(st.integers(0, 30), min_size=2, max_size=200),
    seed=st.integers(-(2**70), 2**70),
    fraction=st.floats(0.01, 0.99),
)
def test_what_is_held_out(tmp_path_factory, numbers, seed, fraction):
    path = tmp_path_factory.mktemp("held") / "data.tsv"
    write(path, "".join(f"{number % 3}\ttext {number}\n" for number in numbers))
    found = read_splits(str(path), valid_fraction=fraction, seed=seed, valid_limit=50)
    whole = read(str(path))
    assert whole.labels is not None
    pairs = Counter(zip(whole.texts, whole.labels, strict=True))
    parts: Counter[tuple[str, str]] = Counter()
    for part in (found.train, found.valid):
        assert part.labels is not None
        parts.update(zip(part.texts, part.labels, strict=True))
    assert parts == pairs
    assert 1 <= len(found.valid) <= max(1, min(round(fraction * len(numbers)), 50))
    assert len(found.train) >= 1
    again = read_splits(str(path), valid_fraction=fraction, seed=seed, valid_limit=50)
    assert again.valid.fingerprint == found.valid.fingerprint
    size = len(found.valid)
    if any(count <= size for count in Counter(numbers).values()) and size > 1:
        assert found.repeated["valid"] == 0


def test_the_held_out_part_changes_with_the_seed_and_has_its_size(tmp_path):
    path = write(tmp_path / "data.txt", "".join(f"text {i}\n" for i in range(1000)))
    first, second = read_splits(path), read_splits(path, seed=1)
    assert len(first.valid) == len(second.valid) == 50
    assert len(set(first.valid.texts) & set(second.valid.texts)) < 15
    places = [int(text.split()[1]) for text in first.valid.texts]
    assert places == sorted(places)
    assert 335 < sum(places) / 50 < 665  # within four standard errors of the middle


def test_fingerprint_depends_on_texts_labels_and_their_borders():
    variants = [
        TextCorpus(["ab", "c"], None, "a"),
        TextCorpus(["a", "bc"], None, "a"),
        TextCorpus(["abc"], None, "a"),
        TextCorpus(["ab", "c"], ["0", "1"], "a"),
        TextCorpus(["ab", "c"], ["1", "0"], "a"),
        TextCorpus(["ab", "c", "0", "1"], None, "a"),
    ]
    assert len({variant.fingerprint for variant in variants}) == len(variants)
    assert variants[0].fingerprint == TextCorpus(["ab", "c"], None, "elsewhere").fingerprint


def test_scenes_are_built_in():
    found = read("scenes", split="valid", limit=50)
    assert len(set(found.texts)) > 40
    assert found.factors is not None
    assert found.labels == [factors["style"] for factors in found.factors]
    assert found.texts != read("scenes", split="train", limit=50).texts
    assert found.fingerprint == read("scenes", split="valid", limit=50).fingerprint


def test_a_hub_dataset(monkeypatch, caplog):
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"])
    )
    train = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    test = datasets.Dataset.from_dict({"text": ["c", "d"], "label": [-1, -1]}, features=features)
    both = datasets.DatasetDict(train=train, validation=train, test=test)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, streaming: both)
    with caplog.at_level(logging.WARNING):
        found = read_splits("someone/reviews")
    assert "asking the Hugging Face hub" in caplog.text
    assert (found.train.texts, found.train.labels) == (["a", "b"], ["good", "bad"])
    assert found.test is not None
    assert found.test.labels is None
    assert found.repeated == {"valid": 2, "test": 0}
    renamed = datasets.DatasetDict(train=train.rename_column("text", "body"))
    monkeypatch.setattr(datasets, "load_dataset", lambda name, streaming: renamed)
    with pytest.raises(IsthmusError, match='no column is named "text", only body, label'):
        read("someone/reviews")


def test_without_a_network_a_name_gets_one_line(monkeypatch, tmp_path):
    def refuse(name, streaming):
        raise ConnectionError("cannot reach the hub\nlong story")

    monkeypatch.chdir(tmp_path)
    write(tmp_path / "reviews.txt", "a\n")
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(IsthmusError) as caught:
        read("reviews")
    message = str(caught.value)
    assert "\n" not in message
    assert "near it in .: reviews.txt" in message
    assert "cannot reach the hub" in message


def test_paths_are_never_taken_for_hub_names(monkeypatch):
    monkeypatch.setattr(corpus, "hub_splits", lambda name: pytest.fail("asked the hub"))
    for name in ("missing.txt", "a/b/c", "./missing", "missing.gz", "a/missing.jsonl.gz", "-"):
        with pytest.raises(IsthmusError, match="does not exist"):
            read(name)


DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not here")
@pytest.mark.parametrize(
    ("name", "count", "classes"),
    [("ptb/test.txt.gz", 3_761, 0), ("yelp/test.tsv.gz", 10_000, 2),
     ("agnews/half.csv.gz", 3_800, 4), ("trec/train.tsv.gz", 5_452, 50)],
)  # fmt: skip
def test_real_data(name, count, classes):
    found = read(str(DATA / name))
    assert len(found) == count
    assert len(set(found.labels or [])) == classes
    assert found.skipped == {}


def test_a_sample_is_the_seeds_whole_and_keeps_labels_beside_their_texts():
    whole = TextCorpus([f"t{n}" for n in range(100)], [f"l{n}" for n in range(100)], "x")
    part = whole.sample(30, 0)
    assert part.labels == [text.replace("t", "l") for text in part.texts]
    assert len(set(part.texts)) == 30
    assert part.texts == sorted(part.texts, key=whole.texts.index)
    assert part.texts != whole.texts[:30]
    assert part.texts == whole.sample(30, 0).texts
    assert part.texts != whole.sample(30, 1).texts
    assert "a random sample of 30" in part.report()
    assert whole.sample(100, 0) is whole.sample(1000, -7) is whole
    # every place is as likely as any other
    seen = Counter(place for seed in range(300) for place in sampled(10, 5, seed))
    assert all(110 <= seen[place] <= 190 for place in range(10)), seen
