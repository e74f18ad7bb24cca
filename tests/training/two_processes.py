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
}
"""24 sentences: shares of 4 and 4; of 4 and 3, the last batch smaller; of any size; posteriors
improved in the loss; a signal that one process hears; a decoder whose cross-attention is idle,
which data-parallel must not wait for; a frozen encoder whose states are kept; and a corpus that is
read in windows of 10 and 14 sentences."""


def is_last_process() -> bool:
    return os.environ.get("RANK", "0") == str(int(os.environ.get("WORLD_SIZE", "1")) - 1)


def save_encoder(out: Path) -> None:
    """The source of the case "kept" and the file of "streamed", by one process before others."""
    texts = [sentence.text for sentence in scenes.generate("train", 24)]
    model = build(from_dict(Settings, TINY, "source"), texts)
    model.encoder.model.save_pretrained(out / "source")
    model.codec.encoder_tokenizer.save_pretrained(out / "source")
    (out / "texts.txt").write_text("\n".join(texts), encoding="utf-8")


def run(name: str, out: Path) -> None:
    """Train one case in float64, so that only mathematics can make a difference."""
    groups = merged(merged(TINY, CASES[name]), {"train": {"log_every": 1}})
    settings = from_dict(Settings, groups, name)
    texts = [sentence.text for sentence in scenes.generate("train", 24)]
    stopped = name == "stopped"
    if name == "kept":
        source = {"model": {"encoder": {"source": str(out / "source")}}}
        settings = with_changes(settings, source, name)
    stream = None
    if name == "streamed":
        stream = stream_splits(str(out / "texts.txt"), settings).train.stream
    for resume in (False, True) if stopped else (False,):
        model = build(settings, texts).double()
        examples = model.codec.prepare(texts)
        stop = StopOnSignal(Console(quiet=True))
        here = Do(3, lambda _, stop=stop: setattr(stop, "asked", is_last_process()))
        callbacks = [here, stop] if stopped and not resume else []
        trainer = trained(
            out / name,
            settings,
            model,
            examples,
            examples,
            resume=resume,
            callbacks=callbacks,
            stream=stream,
        )
        assert trainer.state.global_step == (3 if callbacks else 6)
    if is_first_process():
        state = {key: value.clone() for key, value in model.state_dict().items()}
        save_file(state, out / f"{name}.safetensors")


def run_two_phases(out: Path) -> None:
    """A first phase, and the main run in the same processes."""
    settings = from_dict(Settings, merged(TINY, {"first": {"epochs": 1.0}}), "phases")
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
