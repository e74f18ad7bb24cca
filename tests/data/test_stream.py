"""Streams read what files hold, each text once an epoch, and go on from any window."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.data.corpus import read, stream_splits
from isthmus.data.stream import Place, TextStream, Window
from isthmus.errors import IsthmusError
from isthmus.settings import Settings, from_dict

zstandard = pytest.importorskip("zstandard", reason="the extra scale is not installed")

TEXTS = [f"Text {n}, über\u2028zwei" for n in range(97)]


def settings_of(**groups) -> Settings:
    groups["data"] = {"streaming": True, "window": 10} | groups.get("data", {})
    return from_dict(Settings, {"model": {"kind": "text-vae"}} | groups, "test")


def write(path: Path, texts: list[str]) -> None:
    plain = path.name.removesuffix(".gz").removesuffix(".zst")
    if plain.endswith(".parquet"):
        pyarrow.parquet.write_table(pa.table({"id": range(len(texts)), "text": texts}), path)
        return
    if plain.endswith(".jsonl"):
        texts = [json.dumps({"label": "a", "sentence": text}) for text in texts]
    content = ("\ufeff" + "\r\n".join([*texts[:5], "", *texts[5:]]) + "\r\n").encode()
    if path.suffix == ".gz":
        content = gzip.compress(content)
    if path.suffix == ".zst":  # of several frames, as parallel compressors write them
        packed = zstandard.ZstdCompressor()
        content = packed.compress(content[:400]) + packed.compress(content[400:])
    path.write_bytes(content)


def first_epoch(stream: TextStream) -> list[Window]:
    found = []
    for window in stream.windows():
        if window.start.epoch:
            return found
        found.append(window)
    raise AssertionError("a stream has no end")


@pytest.mark.parametrize(
    "form",
    [
        *(f"{name}{packed}" for name in (".txt", ".jsonl") for packed in ("", ".gz", ".zst")),
        ".parquet",
    ],
)
def test_every_form_is_read_as_in_memory(form, tmp_path):
    for shard in range(3):
        write(tmp_path / f"train-{shard}{form}", TEXTS[shard::3])
    write(tmp_path / f"valid{form}", ["a", "b"])
    splits = stream_splits(str(tmp_path), settings_of())
    whole = read(tmp_path, split="train")
    windows = first_epoch(splits.train.stream)
    assert Counter(text for window in windows for text in window.texts) == Counter(whole.texts)
    assert Counter(whole.texts) == Counter(splits.train.texts) == Counter(TEXTS)
    assert splits.valid.texts == ["a", "b"]
    assert splits.train.skipped.get("empty lines", 0) == (0 if form == ".parquet" else 3)


def of_shards(sizes: list[int], size: int, seed: int = 0) -> TextStream:
    """A stream of numbered texts, as the hub gives it: shards of a table with several columns."""
    rows = [f"{shard}/{row}" for shard, count in enumerate(sizes) for row in range(count)]
    ends = [sum(sizes[:place]) for place in range(len(sizes) + 1)]

    def generate(shards):
        for shard in shards:
            for text in rows[ends[shard] : ends[shard + 1]]:
                yield {"text": text}

    parts = {"shards": list(range(len(sizes)))}
    dataset = datasets.IterableDataset.from_generator(generate, gen_kwargs=parts)
    names = {f"shard {place}": 0 for place in range(len(sizes))}
    return TextStream("numbers", names, dataset, size=size, seed=seed)


def several(stream: TextStream, count: int, start: Place | None = None) -> list[Window]:
    windows = stream.windows() if start is None else stream.windows(start)
    return [next(windows) for _ in range(count)]


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any),
    st.integers(1, 12),
    st.integers(0, 99),
)
def test_every_text_is_in_one_window_of_an_epoch(sizes, size, seed):
    stream = of_shards(sizes, size, seed)
    windows = first_epoch(stream)
    texts = [text for window in windows for text in window.texts]
    assert sorted(texts) == sorted(f"{s}/{row}" for s, n in enumerate(sizes) for row in range(n))
    *full, last = (len(window.texts) for window in windows)
    assert set(full) <= {size}
    assert last >= min(len(texts), max(1, size // 2))
    assert [window.start.texts for window in windows] == [
        sum(len(before.texts) for before in windows[:place]) for place in range(len(windows))
    ]
    assert stream.count(lambda shards: None) == len(texts)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any),
    st.integers(1, 12),
    st.integers(0, 11),
)
def test_a_stream_goes_on_from_any_window(sizes, size, place):
    stream = of_shards(sizes, size)
    whole = several(stream, 12)
    assert several(of_shards(sizes, size), 12 - place, whole[place].start) == whole[place:]


def test_every_epoch_has_another_order_of_shards_and_the_same_for_a_seed():
    orders = []
    for seed in (0, 0, 1):
        windows = several(of_shards([2] * 20, 40, seed), 3)
        orders += [[text for text in window.texts if text.endswith("/0")] for window in windows]
    assert orders[:3] == orders[3:6]
    assert len({tuple(order) for order in orders}) == 6
    assert len({tuple(sorted(order)) for order in orders}) == 1


def test_texts_held_out_are_in_no_window(tmp_path):
    texts = [*TEXTS, *TEXTS[:40]]
    for shard in range(4):
        write(tmp_path / f"train-{shard}.txt", texts[shard::4])
    splits = stream_splits(str(tmp_path), settings_of())
    valid, windows = splits.valid.texts, first_epoch(splits.train.stream)
    streamed = [text for window in windows for text in window.texts]
    assert len(valid) > 1
    assert Counter(streamed) + Counter(valid) == Counter(texts)
    assert Counter(splits.train.texts) == Counter(streamed)
    assert splits.train.stream.count(lambda shards: None) == len(streamed)


def test_a_dataset_of_the_hub(monkeypatch):
    parts = {"label": [0, 1] * 20, "body": TEXTS[:40], "text": TEXTS[40:80]}
    train = datasets.Dataset.from_dict(parts).to_iterable_dataset(num_shards=3)
    valid = datasets.Dataset.from_dict({"text": TEXTS[:5]}).to_iterable_dataset()
    loaded = {"train": train, "validation": valid}
    monkeypatch.setattr(datasets, "load_dataset", lambda name, streaming: loaded)
    splits = stream_splits("someone/reviews", settings_of())
    texts = [text for window in first_epoch(splits.train.stream) for text in window.texts]
    assert sorted(texts) == TEXTS[40:80]
    assert splits.valid.texts == TEXTS[:5]
    assert splits.train.source == "someone/reviews/train"
    with pytest.raises(IsthmusError, match=r"reviews\.jsonl does not exist"):
        stream_splits("reviews.jsonl", settings_of())


def test_a_sample_is_from_all_shards_and_bounded():
    stream = of_shards([30, 3, 30, 30], 5)
    sample = stream.sample(40)
    assert Counter(text[0] for text in sample) == Counter({"0": 10, "1": 3, "2": 10, "3": 10})
    assert all(int(text[2:]) < 10 for text in sample)


def test_other_shards_are_another_corpus(tmp_path):
    prints = set()
    for more in ([], ["one more"]):
        write(tmp_path / "train-0.txt", TEXTS)
        write(tmp_path / "train-1.txt", [*TEXTS, *more])
        prints.add(stream_splits(str(tmp_path), settings_of()).train.fingerprint)
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"data": {"limit": 5}}, "--data.limit 5"),
        ({"model": {"labels": "given"}}, "--model.labels given"),
        ({"data": {"embeddings": "a.npy"}}, "--embeddings"),
    ],
)
def test_what_needs_all_texts_is_refused(groups, words, tmp_path):
    write(tmp_path / "train.txt", TEXTS)
    with pytest.raises(IsthmusError, match=f"cannot be combined with {words}; leave one"):
        stream_splits(str(tmp_path), settings_of(**groups))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.tsv", b"x\ty\n", r"reads \.txt, \.jsonl, \.parquet.* got \.tsv; convert"),
        ("a.txt", b"\n\n", r"a\.txt has no text, only 2 empty lines"),
        ("a.txt", b"a\nb\xff\n", "cannot be read behind row 0 .*UnicodeDecodeError"),
        ("a.jsonl", b'{"text": "a"}\n{"tex": 1}\n', 'line 2 has no key "text"'),
        ("a.parquet", b"PAR1 not", r"a\.parquet: cannot be read"),
        # `mtime` is in the name of the test, which every worker must find alike
        (
            "a.txt.gz",
            gzip.compress(b"a\n" * 9999, mtime=0)[:-20],
            "cannot be read behind row .*EOFError",
        ),
        (
            "a.txt.zst",
            zstandard.ZstdCompressor().compress(bytes(range(1, 99)) * 9999)[:-20],
            "cannot be read behind row .*EOFError",
        ),
    ],
)
def test_a_fault_takes_one_line(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(IsthmusError, match=words) as caught:
        stream_splits(str(tmp_path / name), settings_of())
    assert "\n" not in str(caught.value)
