"""Started by test_processes.py under torchrun: train four tiny runs, save what they learned."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from conftest import TINY
from isthmus.data import scenes
from isthmus.models.build import build
from isthmus.progress import JsonLinesLog, is_first_process
from isthmus.settings import Settings, from_dict, merged
from isthmus.training import LatentTrainer

CASES = {
    "even": {"train": {"sentences_per_batch": 8}},
    "uneven": {"train": {"sentences_per_batch": 7, "accumulation": 2}},
    "ragged": {"train": {"sentences_per_batch": 0, "tokens_per_batch": 90}},
    "improved": {"train": {"sentences_per_batch": 8, "semi_amortised": 2}},
    "idle": {"model": {"bridge": "memory", "decoder": {"architecture": "t5"}}},
}
"""24 sentences: shares of 4 and 4; of 4 and 3, the last batch smaller; of any size; posteriors
improved in the loss; and a decoder whose cross-attention is idle, which data-parallel must not
wait for."""


def run(name: str, out: Path) -> None:
    """Train one case in float64, so that only mathematics can make a difference."""
    groups = merged(merged(TINY, CASES[name]), {"train": {"log_every": 1}})
    settings = from_dict(Settings, groups, name)
    texts = [sentence.text for sentence in scenes.generate("train", 24)]
    model = build(settings, texts).double()
    examples = model.codec.prepare(texts)
    log = JsonLinesLog(out / f"{name}.jsonl", 0) if is_first_process() else None
    trainer = LatentTrainer(
        model, settings, examples, examples, out / name, log=log, warn=print, callbacks=[]
    )
    trainer.fit(None)
    if is_first_process():
        state = {key: value.clone() for key, value in model.state_dict().items()}
        save_file(state, out / f"{name}.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in CASES:
        run(name, Path(sys.argv[1]))
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
