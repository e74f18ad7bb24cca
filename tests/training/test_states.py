"""A frozen encoder reads each text once, and nothing else changes."""

from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console
from transformers import TrainerCallback

from isthmus.data.corpus import TextCorpus
from isthmus.data.kind import Splits
from isthmus.models.build import build
from isthmus.models.states import KeptStates
from isthmus.training import train
from isthmus.training.states import STATES, set_states
from trainers import Do, PowerCut, cut_power, distance, timeless, weights

GROUPS = {"train": {"steps": 12, "evaluations": 6, "log_every": 3, "keep": "best"}}


@pytest.fixture(scope="module")
def source(tmp_path_factory, settings_of, sentences):
    """A folder with an encoder."""
    folder = tmp_path_factory.mktemp("source")
    model = build(settings_of(), sentences)
    model.encoder.model.save_pretrained(folder)
    model.codec.encoder_tokenizer.save_pretrained(folder)
    return str(folder)


def frozen(source: str, **more) -> dict:
    encoder = {"source": source, "tuning": "frozen"} | more.pop("encoder", {})
    return GROUPS | {"model": {"encoder": encoder}} | more


class Counting(TrainerCallback):
    """Count the texts that the encoder reads, from the first step on."""

    def __init__(self, keep: bool = True) -> None:
        self.keep, self.texts = keep, 0

    def on_train_begin(self, args, state, control, model=None, **_):
        if not self.keep:
            set_states(model, None)
        model.encoder.model.register_forward_hook(self._count, with_kwargs=True)

    def _count(self, module, args, kwargs, output):
        self.texts += len(kwargs["attention_mask"])


def close(one, other, by: float) -> None:
    assert distance(weights(one), weights(other)) < by
    for x, y in zip(timeless(one.out), timeless(other.out), strict=True):
        assert x.keys() == y.keys()
        for key, value in x.items():
            if isinstance(value, float):
                assert value == pytest.approx(y[key], abs=1e-4, rel=1e-5), key


def test_each_text_is_read_once_and_the_run_is_the_same(make, source, tmp_path, sentences):
    kept, plain = Counting(), Counting(keep=False)
    one = make(tmp_path / "kept", callbacks=[kept], **frozen(source))
    other = make(tmp_path / "plain", callbacks=[plain], **frozen(source))
    assert kept.texts == len(set(sentences[:40]) | set(sentences[40:]))
    assert plain.texts == 12 * 8 + 6 * 16
    close(one, other, 1e-6)


@pytest.mark.parametrize("step", [3, 7])
def test_a_run_without_power_ends_bit_for_bit_the_same(step, make, source, tmp_path):
    whole = make(tmp_path / "whole", **frozen(source))
    with pytest.raises(PowerCut):
        make(tmp_path / "cut", callbacks=[Do(step, cut_power)], **frozen(source))
    lines: list[str] = []
    cut = make(tmp_path / "cut", resume=True, warn=lines.append, **frozen(source))
    assert not [line for line in lines if STATES in line]
    assert distance(weights(whole), weights(cut)) == 0
    assert timeless(whole.out) == timeless(cut.out)


@pytest.mark.parametrize("damage", ["gone", "flipped"])
def test_states_that_are_lost_are_computed_again_with_a_line(damage, make, source, tmp_path):
    whole = make(tmp_path / "whole", **frozen(source))
    with pytest.raises(PowerCut):
        make(tmp_path / "cut", callbacks=[Do(7, cut_power)], **frozen(source))
    [rows] = (tmp_path / "cut" / STATES).glob("*.rows")
    content = bytearray(rows.read_bytes())
    content[5] ^= 1
    rows.write_bytes(b"" if damage == "gone" else content)
    lines: list[str] = []
    cut = make(tmp_path / "cut", resume=True, warn=lines.append, **frozen(source))
    assert [line for line in lines if "missing or damaged: the encoder reads all texts" in line]
    close(whole, cut, 1e-5)


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ({"data": {"deletion": 0.3}}, "data.deletion changes its input"),
        ({"data": {"masking": 0.3}}, "data.masking changes its input"),
        ({"encoder": {"pooling": "attention"}}, "the pooling attention is trained"),
    ],
)
def test_what_changes_a_state_from_epoch_to_epoch_is_said(
    groups, reason, make, source, tmp_path, sentences
):
    count = Counting()
    trainer = make(tmp_path, callbacks=[count], **frozen(source, **groups))
    assert reason in trainer.reading
    assert count.texts == 12 * 8 + 6 * 16


def test_dropped_words_of_the_decoder_change_no_state(make, source, tmp_path):
    count = Counting()
    make(tmp_path, callbacks=[count], **frozen(source, data={"word_dropout": 0.5}))
    assert count.texts <= 56


def test_a_trained_encoder_has_nothing_to_keep(make, source, tmp_path):
    trainer = make(tmp_path, **frozen(source, encoder={"tuning": "full"}))
    assert trainer.reading == ""
    assert not (tmp_path / STATES).exists()


def test_a_finished_run_leaves_no_states(settings_of, source, sentences, tmp_path):
    corpora = [TextCorpus(some, None, "s") for some in (sentences[:40], sentences[40:])]
    console = Console(record=True, file=io.StringIO(), width=200)
    model = train(
        settings_of(**frozen(source)),
        Splits(*corpora, None, {}),
        tmp_path / "run",
        resume=False,
        console=console,
    )
    assert f"it reads each text once, its states are kept in {STATES}" in console.export_text()
    assert not (tmp_path / "run" / STATES).exists()
    assert model.encode(sentences[:2]).mean.shape == (2, 4)


def test_rows_are_found_by_their_tokens(tmp_path):
    states = KeptStates(tmp_path / "new", "name", 2, torch.float32)
    states.restore(0)
    seen = []

    def read(batch):
        seen.append(batch["input_ids"].tolist())
        return torch.stack([batch["input_ids"].sum(1), batch["attention_mask"].sum(1)], 1).float()

    def given(ids, mask=None):
        ids = torch.tensor(ids)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids) if mask is None else mask}

    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    first = states(given([[5, 6, 7, 9], [5] * 4, [5] * 4], mask), read)
    assert seen == [[[5, 6, 7], [5, 5, 5]]]  # each text once, without padding that none needs
    assert torch.equal(first[1], first[2])
    again = states(given([[5, 6, 7], [5, 6, 8]]), read)
    assert seen[1:] == [[[5, 6, 8]]]
    assert torch.equal(again[0], first[0])
    assert states.commit() == len(states) == 3
    other = KeptStates(tmp_path / "new", "name", 2, torch.float32)
    assert other.restore(2)
    assert len(other) == 2
    assert not other.restore(3)  # the third is cut off
    assert len(other) == 0
