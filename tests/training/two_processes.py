"""Started by test_processes.py under torchrun: train tiny runs, save what they learned."""

import os
import sys
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import save_file

from isthmus.data import scenes
from isthmus.data.corpus import TextCorpus, stream_splits
from isthmus.data.kind import Splits
from isthmus.models.build import build
from isthmus.progress import is_first_process
from isthmus.settings import Settings, from_dict, merged, with_changes
from isthmus.training import train
from isthmus.training.callbacks import StopOnSignal
from trainers import TINY, Do, trained

CASES = {
    "even": {"train": {"sentences_per_batch": 8}},
    "uneven": {"train": {"sentences_per_batch": 7, "accumulation": 2}},
    "ragged": {"train": {"sentences_per_batch": 0, "tokens_per_batch": 90}},
    "improved": {"train": {"sentences_per_batch": 8, "semi_amortised": 2}},
    "stopped": {"train": {"sentences_per_batch": 8}},
    "idle": {"model": {"bridge": "memory", "decoder": {"architecture": "t5"}}},
    "kept": {"model": {"encoder": {"tuning": "frozen"}}},
    "streamed": {"data": {"streaming": True, "window": 10}},
    "recomputed": {
        "train": {"gradient_checkpointing": True},
        "model": {"prior": "vamp", "prior_components": 3},
    },
    "divided": {
        "train": {
            "sharding": True,
            "steps": 10,
            "sentences_per_batch": 7,
            "accumulation": 2,
            "gradient_checkpointing": True,
            "weight_decay": 0.1,
            "evaluations": 2,
            "keep": "best",
        },
        "model": {
            "prior": "vamp",
            "prior_components": 3,
            "bridge": "memory",
            "decoder": {"architecture": "t5"},
        },
    },
    "updated": {
        "train": {"sharding": True, "embedding_rate": 2.0},
        "model": {
            "bridge": "memory+embedding+output",
            "encoder": {"tuning": "frozen"},
            "decoder": {"tuning": "lora"},
        },
        "data": {"maximum_length": 20},
    },
    "rounded": {"train": {"sharding": True, "precision": "bf16"}},
    "handed": {
        "train": {"sharding": True},
        "model": {"bridge": "state", "decoder": {"architecture": "lstm"}},
    },
}
"""24 sentences: shares of 4 and 4; of 4 and 3, the last batch smaller; of any size; posteriors
improved in the loss; a signal that one process hears; a decoder whose cross-attention is idle,
which data-parallel must not wait for; a frozen encoder whose states are kept; a corpus that is
read in windows of 10 and 14 sentences; recomputing, with a prior that is not used at β = 0; and
models in parts: with recomputing and its best weights, with LoRA beside what is frozen, in bf16,
and an LSTM that a single process goes on with."""
SOURCES = {"kept": ["encoder"], "updated": ["encoder", "decoder"]}
"""Which halves of a case are pretrained."""


def is_last_process() -> bool:
    return os.environ.get("RANK", "0") == str(int(os.environ.get("WORLD_SIZE", "1")) - 1)


def save_sources(out: Path) -> None:
    """The pretrained halves and the file of "streamed", by one process before the others."""
    texts = [sentence.text for sentence in scenes.generate("train", 24)]
    model = build(from_dict(Settings, TINY, "source"), texts)
    for part in ("encoder", "decoder"):
        getattr(model, part).model.save_pretrained(out / part)
        getattr(model.codec, f"{part}_tokenizer").save_pretrained(out / part)
    (out / "texts.txt").write_text("\n".join(texts), encoding="utf-8")


def run(name: str, out: Path, *, resume: bool = False) -> None:
    """Train one case, in float64 but for bf16, so that only mathematics can make a difference."""
    groups = merged(merged(TINY, CASES[name]), {"train": {"log_every": 1}})
    settings = from_dict(Settings, groups, name)
    texts = [sentence.text for sentence in scenes.generate("train", 24)]
    stopped = name == "stopped" or (name == "handed" and "RANK" in os.environ)
    if name in SOURCES:
        sources = {part: {"source": str(out / part)} for part in SOURCES[name]}
        settings = with_changes(settings, {"model": sources}, name)
    stream = None
    if name == "streamed":
        stream = stream_splits(str(out / "texts.txt"), settings).train.stream
    for again in (False, True) if name == "stopped" else (resume,):
        model = build(settings, texts)
        if name != "rounded":
            model = model.double()
        examples = model.codec.prepare(texts)
        stop = StopOnSignal(Console(quiet=True))
        here = Do(3, lambda _, stop=stop: setattr(stop, "asked", is_last_process()))
        callbacks = [here, stop] if stopped and not again else []
        trainer = trained(
            out / name,
            settings,
            model,
            examples,
            examples,
            resume=again,
            callbacks=callbacks,
            stream=stream,
        )
        assert trainer.state.global_step == (3 if callbacks else settings.train.steps)
    trainer.gather()
    if is_first_process():
        state = {key: value.clone() for key, value in trainer.model.state_dict().items()}
        save_file(state, out / f"{name}.safetensors")


def run_two_phases(out: Path) -> None:
    """A first phase, and the main run in the same processes; in parts if they are several."""
    several = "RANK" in os.environ
    changes = {"first": {"epochs": 1.0}, "train": {"sharding": several}}
    settings = from_dict(Settings, merged(TINY, changes), "phases")
    parts = {"train": 24, "valid": 16}
    corpora = [
        TextCorpus([each.text for each in scenes.generate(split, count)], None, "scenes")
        for split, count in parts.items()
    ]
    train(settings, Splits(*corpora, None, {}), out, resume=False, console=Console(quiet=True))


def run_all(out: Path) -> None:
    """Everything, in a folder."""
    for name in CASES:
        run(name, out)
    run_two_phases(out / "phases")


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_all(Path(sys.argv[1]))
    torch.distributed.destroy_process_group()
