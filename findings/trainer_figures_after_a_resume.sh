#!/usr/bin/env bash
# transformers 5.23.0: two figures that Trainer reports at its end mean something else than their names.
#
# * `train_loss` after `resume_from_checkpoint` is the mean over the resumed steps alone. The weights are
#   bit for bit those of a run without a stop, the figure of the same name is not.
# * `train_samples_per_second` is steps × `per_device_train_batch_size` / seconds. With a sampler that
#   makes batches of its own size, as bucketing by length does, the figure is wrong by the ratio: here
#   batches of 32, and the argument at its value of 8.
#
# Remedy: sum the losses and count the examples of the run yourself, and keep the sums in checkpoints.
#
# Output seen:
#   whole run: train_loss 0.220, 8 samples a step
#   resumed at its half: train_loss 0.014, same weights True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 transformers==5.23.0 accelerate==1.15.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON' 2>/dev/null
import sys

import torch
from torch.utils.data import DataLoader, TensorDataset
from transformers import Trainer, TrainingArguments, set_seed

STEPS = 20


class Square(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.weight - x).square().mean()}


class Batches(Trainer):
    def get_train_dataloader(self) -> DataLoader:
        batches = [range(at, at + 32) for at in range(0, 640, 32)]
        return DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=together)


def together(rows: list[tuple[torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {"x": torch.stack([row[0] for row in rows])}


def run(checkpoint: str | None) -> tuple[dict[str, float], torch.Tensor]:
    set_seed(0)
    arguments = TrainingArguments(
        output_dir=sys.argv[1] + "/out",
        max_steps=STEPS,
        save_steps=STEPS // 2,
        learning_rate=0.1,
        per_device_train_batch_size=8,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
        use_cpu=True,
    )
    data = TensorDataset(torch.zeros(640))
    trainer = Batches(model=Square(), args=arguments, train_dataset=data)
    return trainer.train(resume_from_checkpoint=checkpoint).metrics, trainer.model.weight.detach()


whole, weight = run(None)
resumed, again = run(f"{sys.argv[1]}/out/checkpoint-{STEPS // 2}")
same = torch.equal(weight, again)
samples = round(whole["train_samples_per_second"] * whole["train_runtime"] / STEPS)
print(f"whole run: train_loss {whole['train_loss']:.3f}, {samples} samples a step")
print(f"resumed at its half: train_loss {resumed['train_loss']:.3f}, same weights {same}")
apart = abs(whole["train_loss"] - resumed["train_loss"]) > 0.01
sys.exit(not (same and apart and samples == 8))
PYTHON
