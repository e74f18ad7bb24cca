"""Each fault that the watch reports is mended by the flag that it prints, and by nothing else."""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch

from isthmus.data import scenes
from isthmus.evaluation.metrics import evaluate
from isthmus.evaluation.readings import readings_of
from isthmus.models.build import build
from isthmus.settings import Settings, with_changes
from isthmus.training import LatentTrainer
from trainers import trained

WORDS = list("abcdefghijkl")
DRAWN = random.Random(0)
UNLIKE = [" ".join(DRAWN.choices(WORDS, k=6)) for _ in range(96)]
"""Words drawn alike: without z nothing helps to guess the next one."""
NUMBERED = [f"{text} {n}" for n, text in enumerate(UNLIKE)]
"""With a word of its own each."""
SCENES = [sentence.text for sentence in scenes.generate("train", 600)]
FEW = SCENES[:32]
KNOWN = {word for text in FEW for word in text.split()}
FAMILIAR = [text for text in SCENES[32:] if KNOWN.issuperset(text.split())]

TRAIN = {"sentences_per_batch": 32, "learning_rate": 1e-2, "evaluations": 8, "log_every": 1000}


def gap(trainer: LatentTrainer, measured: dict[str, float]) -> bool:
    """The decoder reads z."""
    return measured["eval_swap_gap"] > 0.5


def summed_up(trainer: LatentTrainer, measured: dict[str, float]) -> bool:
    """The decoder reads the summary, where that is all it has."""
    return measured["eval_summary_swap_gap"] > 0.5


def held(trainer: LatentTrainer, measured: dict[str, float]) -> bool:
    """A text holds what z spends, all of it is charged, and the decoder reads it."""
    small = measured["eval_kl"] < trainer.watch.frequency.mean()
    return small and not trainer.objective.free_bits and gap(trainer, measured)


def learned(trainer: LatentTrainer, measured: dict[str, float]) -> bool:
    """The order of tokens helps."""
    return measured["eval_reconstruction"] < trainer.watch.frequency.mean() - 5


def readable(trainer: LatentTrainer, measured: dict[str, float]) -> bool:
    """Every word is known."""
    return trainer.valid.decoder_tokens.unknown_share == 0


class Fault(NamedTuple):
    """A run that has it, what is said of it, and what tells that it is mended."""

    mended: Callable[[LatentTrainer, dict[str, float]], bool]
    steps: int
    says: str
    remedy: str
    objective: dict[str, Any]
    more: Mapping[str, dict[str, Any]] = MappingProxyType({})
    texts: list[str] = UNLIKE
    valid: list[str] = UNLIKE


CONSTANT = {"schedule": "constant", "beta": 1.0}
LATE = {"schedule": "zero-ramp", "zero": 0.3, "ramp": 0.7, "beta": 4.0}
FLAT = CONSTANT | {"beta": 0.1}
FREE = CONSTANT | {"free_bits": 2.0}
IN_ALL = CONSTANT | {"free_bits": 16.0, "free_bits_form": "total"}
WIDE = {"model": {"latent_size": 32}}
LEVELS = {
    "model": {
        **{"latents": 9, "summary": 1, "latent_size": 8, "latent_dropout": 0.9, "start": "copy"},
        **{"bridge": "aligned", "bridge_length": 1},
        "encoder": {"pooling": "blocks"},
    },
    "data": {"maximum_length": 9},
}
SLOW = {"train": {"learning_rate": 3e-3}}
SMALL = {"data": {"vocabulary_size": 300, "maximum_length": 40}}
DEAD, UNREAD = "the posterior has collapsed: KL is 0.", "the decoder ignores z"
OFF, FULL = "the KL gradient is off for", "z spends more than a text holds"
LONGER = "train longer (--train.steps {})"
SMALLER = "train at a smaller β (--objective.beta 0.1)"
RAISE, FEWER = "raise β (--objective.beta 0.01)", "train for fewer steps (--train.steps 40)"
CHARGE = f"charge all of the KL (--objective.free-bits 0), {SMALLER}"
READABLE = "train with another tokenizer (--data.tokenizer bpe)"
YOUNG = "the model has learned nothing of their order yet"
FAULTS = {
    "collapsed": Fault(gap, 56, DEAD, SMALLER, CONSTANT),
    "collapsed early": Fault(gap, 16, DEAD, LONGER.format(80), FLAT),
    "not read": Fault(gap, 16, UNREAD, LONGER.format(80), CONSTANT | {"beta": 0.002}),
    "summary collapsed": Fault(
        summed_up, 56, f"the summary alone: {DEAD}", SMALLER, CONSTANT, LEVELS
    ),
    "dying": Fault(gap, 96, "active units fell", SMALLER, LATE),
    "too free": Fault(held, 72, OFF, CHARGE, FREE, WIDE),
    "too free in all": Fault(
        held, 72, OFF, CHARGE, FREE | {"free_bits": 16.0, "free_bits_form": "total"}
    ),
    "too full": Fault(held, 96, FULL, RAISE, CONSTANT | {"beta": 0.002}, WIDE),
    "overfitted": Fault(learned, 160, "by heart", FEWER, FLAT, {}, FEW, FAMILIAR),
    "young": Fault(
        learned, 20, YOUNG, LONGER.format(100), FLAT, SLOW, SCENES[:300], SCENES[300:400]
    ),
    "unreadable": Fault(
        readable, 4, "words are unknown", READABLE, FLAT, SMALL, NUMBERED[:60], NUMBERED[60:]
    ),
}


def flags(finding: str) -> dict[str, Any]:
    """Every flag of a line with its value, by groups of settings."""
    groups: dict[str, Any] = {}
    for flag, value in re.findall(r"--(\w+\.[\w.-]+) ([^\s)]+)", finding):
        number = value if value.isalpha() else (float if "." in value else int)(value)
        *path, name = flag.replace("-", "_").split(".")
        inner = groups
        for group in path:
            inner = inner.setdefault(group, {})
        inner[name] = number
    return groups


@pytest.mark.parametrize("name", FAULTS)
def test_the_printed_flag_mends_the_fault(name, settings_of, tmp_path):
    fault = FAULTS[name]
    train = TRAIN | {"steps": fault.steps}
    plain = {"model": {"latent_size": 8}, "objective": fault.objective, "train": train}
    settings = settings_of(**merged(plain, fault.more))
    [finding], trainer, measured = run(settings, fault, tmp_path / "planted")
    assert fault.says in finding
    assert finding.endswith(f"; {fault.remedy}")
    assert not fault.mended(trainer, measured), "the fault is not planted: the test shows nothing"
    assert trainer.watch.remedy == fault.remedy
    # Neither evaluate nor the report says another flag.
    metrics = evaluate(trainer.model, trainer.valid, samples=2, texts=2)
    record = {"settings": asdict(settings), "steps": fault.steps, "remedy": fault.remedy}
    closing = flags(" ".join(row.reading for row in readings_of(metrics, record)))
    assert closing in ({}, flags(finding))

    repeated, trainer, measured = run(
        with_changes(settings, flags(finding), "remedy"), fault, tmp_path / "mended"
    )
    assert fault.mended(trainer, measured), measured
    assert not any(fault.says in each for each in repeated)


def test_means_that_start_scattered_are_mended_by_the_flag(settings_of, tmp_path):
    """Beside a decoder that knows the texts they cost what nothing gives back."""
    train, texts, valid = TRAIN | {"steps": 100}, SCENES[:300], SCENES[300:400]
    plain = settings_of(model={"kind": "language-model"}, train=train)
    model = build(plain, texts, None)
    read = model.codec.prepare_training(texts, None), model.codec.prepare(valid)
    trained(tmp_path / "decoder", plain, model, *read)
    for part in (model.decoder.model, model.codec.decoder_tokenizer):
        part.save_pretrained(tmp_path / "stock")
    source = {"source": str(tmp_path / "stock")}
    settings = settings_of(
        model={"latent_size": 32, "decoder": source, "encoder": {"head_scale": 0.5}},
        objective={"schedule": "zero-ramp", "zero": 0.4, "ramp": 0.1},
        train=TRAIN | {"steps": 48, "learning_rate": 3e-4},
    )
    fault = Fault(held, 48, "", "", {}, {}, texts, valid)
    [finding], _, planted = run(settings, fault, tmp_path / "planted")
    assert finding.startswith("z costs far more than it tells: KL is")
    assert "the means are scattered" in finding
    assert flags(finding) == {"model": {"encoder": {"head_scale": 0}}}
    repeated, _, mended = run(
        with_changes(settings, flags(finding), "remedy"), fault, tmp_path / "mended"
    )
    assert repeated == []
    assert mended["eval_kl"] < planted["eval_kl"] / 2
    assert mended["eval_swap_gap"] > planted["eval_swap_gap"]
    assert mended["eval_elbo"] > planted["eval_elbo"] + 5


def merged(groups: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    return {name: groups.get(name, {}) | more.get(name, {}) for name in {*groups, *more}}


def run(
    settings: Settings, fault: Fault, out: Path
) -> tuple[list[str], LatentTrainer, dict[str, float]]:
    """What the watch said, and what the last evaluation measured."""
    torch.manual_seed(0)
    said: list[str] = []
    codec = (model := build(settings, fault.texts, None)).codec
    texts, valid = codec.prepare_training(fault.texts, None), codec.prepare(fault.valid)
    trainer = trained(out, settings, model, texts, valid, warn=said.append)
    return said, trainer, [row for row in trainer.state.log_history if "eval_kl" in row][-1]
