"""A peer's VAE of MNIST: pythae 0.1.2 as it comes, measured in the same way as ours.

    pip install --no-deps pythae==0.1.2        # its other requirements are installed
    python benchmarks/mnist_peer.py            # after mnist.py, whose processor time is the budget

pythae's default perceptron (one hidden layer of 512 on either side), its "bce" reconstruction and
its trainer (Adam 1e-3, batches of 128, the weights of its best epoch), on the same 50,000
pictures binarised anew in every epoch, until it has used the processor seconds that mnist.py
used. Its weights are then loaded into :class:`PictureModel`, so both bounds come from the same
code on the same 10,000 binary pictures. Writes results/mnist_peer.json.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import torch
from pythae.data.datasets import BaseDataset, DatasetOutput
from pythae.models import VAE, VAEConfig
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor, nn

from common import RUNS, read, write
from isthmus.data import pictures
from isthmus.models.pictures.model import PictureConfig, PictureModel
from mnist import MNIST, judged

OUT = RUNS / "mnist-peer"
LATENT_SIZE = 40


class Binary(BaseDataset):
    """Pictures, binarised anew at every access."""

    def __getitem__(self, index: int) -> DatasetOutput:
        return DatasetOutput(data=torch.bernoulli(self.data[index]), labels=self.labels[index])


class Budget(TrainingCallback):
    """Ends training after the epoch that uses up the processor seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.started, self.epochs = seconds, time.process_time(), 0

    def on_epoch_end(self, training_config: Any, **kwargs: Any) -> None:
        self.epochs += 1
        if time.process_time() - self.started >= self.seconds:
            raise StopIteration


class Encoder(nn.Module):
    """The encoder of pythae with our input (−1 or 1) and output (mean and log variance in one)."""

    def __init__(self, theirs: VAE) -> None:
        super().__init__()
        self.theirs = theirs.encoder

    def forward(self, values: Tensor) -> Tensor:
        found = self.theirs((values + 1) / 2)
        return torch.cat([found.embedding, found.log_covariance], dim=-1)


def logits(theirs: VAE) -> nn.Sequential:
    """The decoder of pythae without its final sigmoid."""
    hidden, last = theirs.decoder.layers
    return nn.Sequential(hidden, last[0])


def trained(seconds: float) -> tuple[VAE, dict[str, Any]]:
    """Train with the peer's own trainer, and measure the time."""
    torch.manual_seed(0)
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT_SIZE, reconstruction_loss="bce")
    values = torch.from_numpy(pictures.read(MNIST, split="train").examples).float() / 255
    budget = Budget(seconds)
    trainer = BaseTrainer(
        VAE(config),
        Binary(values, torch.zeros(len(values))),
        training_config=BaseTrainerConfig(
            output_dir=str(OUT),
            num_epochs=10_000,
            learning_rate=1e-3,
            per_device_train_batch_size=128,
            no_cuda=True,
        ),
        callbacks=[budget],
    )
    wall = time.perf_counter()
    with suppress(StopIteration):
        trainer.train()
    spent = {
        "wall_seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - budget.started,
        "epochs": budget.epochs,
    }
    return trainer._best_model.eval(), spent


def main() -> None:
    torch.set_num_threads(1)
    ours = read("mnist")
    theirs, spent = trained(ours["training"]["processor_seconds"])
    model = PictureModel(PictureConfig(latent_size=LATENT_SIZE, layers=1)).eval()
    model.encoder, model.decoder = Encoder(theirs), logits(theirs)
    write(
        "mnist_peer",
        {
            "peer": "pythae 0.1.2, its default VAE and trainer",
            "training": spent,
            "test": judged(model),
            "ours": {key: ours["test"][key] for key in ("nll_iw", "nll_iw_se")},
        },
    )


if __name__ == "__main__":
    main()
