"""Training on a stream: the same batches after a stop, every text in a pass, rows of the log."""

from __future__ import annotations

import io
import json
from collections import Counter
from functools import partial

import pytest
from rich.console import Console

from isthmus.api import fit
from isthmus.data.corpus import stream_splits
from isthmus.errors import IsthmusError
from isthmus.models.build import build
from isthmus.settings import load_recipe
from isthmus.training import train
from isthmus.training.loading import bucket_batches
from isthmus.training.run import RECIPE_FILE
from isthmus.training.streaming import StreamedBatches, with_steps
from trainers import Do, PowerCut, cut_power, distance, log_of, timeless, trained, weights

STREAM = {"data": {"streaming": True, "window": 20}}
RUN = {"train": {"steps": 12, "evaluations": 4, "log_every": 3, "sentences_per_batch": 4}}


@pytest.fixture(scope="module")
def shards(tmp_path_factory, sentences):
    """A folder of 56 sentences in three shards."""
    folder = tmp_path_factory.mktemp("shards")
    for place in range(3):
        texts = "\n".join(sentences[place::3])
        (folder / f"train-{place}.txt").write_text(texts, encoding="utf-8")
    (folder / "valid.txt").write_text("\n".join(sentences[:16]), encoding="utf-8")
    return str(folder)


@pytest.fixture
def run(shards, settings_of):
    """A run on the shards in a folder."""

    def run(out, **more):
        groups = {"train": RUN["train"] | more.pop("train", {})}
        settings = settings_of(**STREAM, **groups)
        splits = stream_splits(shards, settings)
        model = build(settings, splits.train.texts)
        examples = model.codec.prepare(splits.train.texts)
        valid = model.codec.prepare(splits.valid.texts)
        return trained(out, settings, model, examples, valid, stream=splits.train.stream, **more)

    return run


# Windows of 20, 20 and 16 sentences have 5, 5 and 4 batches. With checkpoints after every third
# step, runs go on in the middle of a window, from its end, and in the second pass.
@pytest.mark.parametrize(
    ("step", "accumulation", "evaluations"), [(4, 1, 4), (11, 1, 2), (6, 1, 12), (5, 3, 4)]
)
def test_a_run_without_power_ends_bit_for_bit_the_same(
    step, accumulation, evaluations, run, tmp_path
):
    train = {"accumulation": accumulation, "evaluations": evaluations}
    whole = run(tmp_path / "whole", train=train)
    with pytest.raises(PowerCut):
        run(tmp_path / "cut", train=train, callbacks=[Do(step, cut_power)])
    cut = run(tmp_path / "cut", train=train, resume=True)
    assert distance(weights(whole), weights(cut)) == 0
    assert timeless(whole.out) == timeless(cut.out)
    assert whole.streamed.texts == cut.streamed.texts


def batches_of(shards, settings, total, **share):
    """The texts of every batch of a run of some batches."""
    stream = stream_splits(shards, settings).train.stream
    codec = build(settings, ["a"]).codec
    bucketed = partial(bucket_batches, train=settings.train, **share)
    streamed = StreamedBatches(stream, codec, bucketed, total, clustered=False)
    found = [[streamed.examples.texts[place] for _, place in keys] for keys in streamed]
    return found, streamed


def test_a_pass_has_every_text_once_and_another_pass_other_batches(shards, settings_of, sentences):
    settings = settings_of(**STREAM, train={"sentences_per_batch": 4})
    batches, streamed = batches_of(shards, settings, 28)
    first, second = batches[:14], batches[14:]
    for some in (first, second):
        assert Counter(text for batch in some for text in batch) == Counter(sentences)
    assert [set(batch) for batch in first] != [set(batch) for batch in second]
    assert (streamed.texts, streamed.epoch) == (56, 1.0)


def test_processes_share_the_batches_of_one(shards, settings_of):
    settings = settings_of(**STREAM, train={"sentences_per_batch": 7})
    whole, *parts = (
        batches_of(shards, settings, 12, rank=rank, world_size=processes)[0]
        for rank, processes in ((0, 1), (0, 2), (1, 2))
    )
    for batch, one, other in zip(whole, *parts, strict=True):
        assert batch[0::2] == one
        assert batch[1::2] == other


def test_epochs_are_the_steps_that_a_pass_over_memory_has(shards, settings_of):
    groups = {"epochs": 3.0, "steps": 0, "sentences_per_batch": 4, "accumulation": 2}
    settings = settings_of(**STREAM, train=groups)
    splits, out = stream_splits(shards, settings), Console(file=io.StringIO())
    sample = build(settings, splits.train.texts).codec.prepare(splits.train.texts)
    found = with_steps(settings, splits.train.stream, sample, out)
    assert found.train.steps == 3 * 56 / 4 / 2
    assert "stream: 56 texts, in about 14 batches; train.epochs 3 is 21 steps" in (
        out.file.getvalue()
    )


def test_a_run_directory(shards, settings_of, tmp_path):
    groups = {"epochs": 1.5, "steps": 0, "sentences_per_batch": 8, "log_every": 2}
    settings = settings_of(**STREAM, train=groups)
    out = io.StringIO()
    splits = stream_splits(shards, settings)
    train(settings, splits, tmp_path / "run", resume=False, console=Console(file=out, width=200))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["data"]["sentences"] == 56
    assert record["steps"] == 11
    assert load_recipe(str(tmp_path / "run" / RECIPE_FILE)).train.steps == 11
    epochs = [row["epoch"] for row in log_of(tmp_path / "run") if "loss" in row]
    assert (epochs[0], epochs[-1]) == (0.0, 1.0)
    assert "sample: 56 texts" in out.getvalue()
    assert "a sample of a stream from 3 shards" in splits.report()


def test_texts_in_memory_are_no_stream(settings_of, sentences):
    with pytest.raises(IsthmusError, match=r"data\.streaming: got texts that are in memory"):
        fit(sentences, recipe="demo", data={"streaming": True})
