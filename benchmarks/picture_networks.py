"""Networks of pictures at equal processor time: what a bound costs on one core.

    python benchmarks/picture_networks.py mnist mlp   # one run, about a minute
    python benchmarks/picture_networks.py             # the result files from what is there

Every network has the same likelihood (Bernoulli, binarised anew in every epoch), latents, batch
and optimiser, and SECONDS of processor time for its training steps, over which the learning rate
falls to 0 along a cosine; β rises over the first tenth. Judged on 1,000 test pictures by the bound
at β = 1 with one draw. A network that is slower makes fewer steps, which is the point.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from common import DATA, RESULTS, write
from isthmus.data import pictures
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.usage import Estimate
from isthmus.models.pictures.model import PictureConfig, PictureModel

RUNS = Path("runs/picture_networks")
SECONDS, ROWS, RATE, RAMP = 40.0, 64, 2e-3, 0.1
SETS = {"mnist": str(DATA / "images" / "mnist.npz"), "digits": "digits"}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"network": "mlp", "hidden_size": 512, "layers": 2},
    "conv": {"network": "conv", "hidden_size": 8, "layers": 3},
    "residual": {"network": "residual", "hidden_size": 8, "layers": 3},
    "residual, wider": {"network": "residual", "hidden_size": 16, "layers": 3},
    "strided": {"network": "strided", "hidden_size": 16, "layers": 2},
    "deconv": {"network": "deconv", "hidden_size": 8, "layers": 2},
}


def trained(model: PictureModel, seen: Any) -> int:
    """Train for SECONDS of processor time; the number of steps."""
    examples = model.codec.prepare_training(seen, None)
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.0, fused=True)
    model.train()
    step, epoch, since = 0, 0, time.process_time()
    while True:
        for indices in torch.randperm(len(examples)).split(ROWS):
            done = (time.process_time() - since) / SECONDS
            if done >= 1:
                return step
            optimiser.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * done)) / 2
            batch = examples.collate(indices.tolist(), epoch=epoch, noise_shape=(40,))
            terms = model(**batch).terms
            beta = min(1.0, done / RAMP)
            (terms.reconstruction + beta * terms.kl_total).mean().backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            step += 1
        epoch += 1


def measure(data: str, name: str, seed: int = 0) -> dict[str, Any]:
    seen = pictures.read(SETS[data], split="train", limit=10_000)
    test = pictures.read(SETS[data], split="test", limit=1000)
    channels, height, width = seen.shape
    set_seed(seed)
    model = PictureModel(
        PictureConfig(
            channels=channels, height=height, width=width, latent_size=40, **NETWORKS[name]
        )
    )
    steps = trained(model, seen.examples)
    bound = Estimate.mean_of(
        bounds(model.eval(), model.codec.prepare(test.examples), samples=1).negative_elbo
    )
    return {
        "data": data,
        "network": name,
        "settings": NETWORKS[name],
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "steps": steps,
        "milliseconds_a_step": round(1000 * SECONDS / steps, 1),
        "negative_elbo": bound.value,
        "negative_elbo_se": bound.standard_error,
        "pictures": len(test),
    }


def table(records: list[dict[str, Any]]) -> str:
    lines = [
        f"{SECONDS:g} processor seconds of training on one core, batches of {ROWS}; −ELBO at "
        "β = 1, nats a picture, mean ± standard error over test pictures, one seed.",
        "",
        "| data | network | parameters | steps | ms a step | −ELBO |",
        "|---|---|---|---|---|---|",
    ]
    for record in records:
        bound = f"{record['negative_elbo']:.2f} ± {record['negative_elbo_se']:.2f}"
        size = f"{record['network']} ({record['settings']['hidden_size']})"
        lines.append(
            f"| {record['data']} | {size} | {record['parameters']:,} | {record['steps']:,} | "
            f"{record['milliseconds_a_step']} | {bound} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    torch.set_num_threads(1)
    RUNS.mkdir(parents=True, exist_ok=True)
    if len(sys.argv) == 3:
        record = measure(sys.argv[1], sys.argv[2])
        path = RUNS / f"{record['data']}-{record['network']}.json"
        path.write_text(json.dumps(record), encoding="utf-8")
        print(record)
        return
    records = [json.loads(path.read_text("utf-8")) for path in sorted(RUNS.glob("*.json"))]
    write("picture_networks", {"seconds": SECONDS, "runs": records})
    (RESULTS / "picture_networks.md").write_text(table(records), encoding="utf-8")
    print(table(records))


if __name__ == "__main__":
    main()
