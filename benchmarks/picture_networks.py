"""Networks of pictures at equal processor time: what a bound costs on one core.

    python benchmarks/picture_networks.py mnist mlp   # one run, about a minute
    python benchmarks/picture_networks.py             # the result files from kept runs

Every network has the same likelihood (Bernoulli, binarised anew in every epoch), latents, batch
and optimiser, and SECONDS of processor time for its training steps, over which the learning rate
falls to 0 along a cosine; β rises over the first tenth. Measured on 1,000 test pictures by the
bound at β = 1 with one draw. A slower network makes fewer steps, which is the point.
"""

from __future__ import annotations

import math
import sys
import time
from functools import partial
from typing import Any

import torch
from transformers import set_seed

import common
from common import DATA, all_kept, once, one_thread, plus_minus, write
from common import table as markdown
from isthmus.data import pictures
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.usage import Estimate
from isthmus.models.pictures.model import PictureConfig, PictureModel

RUNS = common.RUNS / "picture_networks"
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
    """Train for SECONDS of processor time, and return the number of steps."""
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
    rows = [
        (
            record["data"],
            f"{record['network']} ({record['settings']['hidden_size']})",
            f"{record['parameters']:,}",
            f"{record['steps']:,}",
            record["milliseconds_a_step"],
            plus_minus(record["negative_elbo"], record["negative_elbo_se"], 2),
        )
        for record in records
    ]
    title = (
        f"{SECONDS:g} processor seconds of training on one core, batches of {ROWS}; −ELBO at "
        "β = 1, nats per picture, mean ± standard error over test pictures, one seed."
    )
    head = ("data", "network", "parameters", "steps", "ms per step", "−ELBO")
    return "\n".join([title, "", *markdown(head, rows)]) + "\n"


def main() -> None:
    one_thread()
    if len(sys.argv) == 3:
        data, name = sys.argv[1:]
        once(RUNS / f"{data}-{name}.json", partial(measure, data, name))
        return
    records = all_kept(RUNS)
    write("picture_networks", {"seconds": SECONDS, "runs": records}, table(records))


if __name__ == "__main__":
    main()
