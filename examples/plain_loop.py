"""Train a text VAE in plain PyTorch: the loop inside Isthmus' trainer, without its extras.

A test compares :func:`train` with LatentTrainer to 1e-6: this is what ``isthmus train`` computes.
"""

from itertools import count
from math import ceil

import torch
from transformers import get_cosine_schedule_with_warmup

from isthmus.data import scenes
from isthmus.data.batches import BucketBatches
from isthmus.explore.walks import sample
from isthmus.models.base import LatentModel
from isthmus.models.build import build
from isthmus.models.codec import Examples
from isthmus.settings import Settings, from_dict
from isthmus.training import make_objective


def train(model: LatentModel, examples: Examples, settings: Settings) -> list[float]:
    """Train in place for ``settings.train.steps``; return the loss of every step, in nats."""
    run = settings.train
    objective = make_objective(settings.objective, run.steps)  # β is a function of the step
    batches = BucketBatches(
        examples.lengths, sentences_per_batch=run.sentences_per_batch, seed=run.seed
    )
    optimiser = torch.optim.AdamW(model.parameters(), run.learning_rate, weight_decay=0.0)
    rate = get_cosine_schedule_with_warmup(optimiser, ceil(run.steps * run.warmup), run.steps)
    losses: list[float] = []
    model.train()
    for epoch in count():
        batches.set_epoch(epoch)  # a new order, new noise
        for indices in batches:
            shape = model.latent_shape
            batch = examples.collate(indices, seed=run.seed, epoch=epoch, noise_shape=shape)
            output = model(**batch)  # its terms in nats, one number per example, unweighted
            loss = objective(output.terms, step=len(losses)).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), run.clip)
            optimiser.step()
            rate.step()
            optimiser.zero_grad()
            losses.append(loss.item())
            if len(losses) == run.steps:
                return losses


if __name__ == "__main__":
    changes = {"steps": 300, "sentences_per_batch": 32, "learning_rate": 3e-3}
    settings = from_dict(Settings, {"data": {"tokenizer": "word"}, "train": changes}, "example")
    texts = [sentence.text for sentence in scenes.generate("train", 4000)]
    model = build(settings, texts)
    losses = train(model, model.codec.prepare(texts), settings)
    print(f"−ELBO with β: {losses[0]:.1f} → {sum(losses[-20:]) / 20:.1f} nats per sentence")
    print("read:   ", texts[0])
    print("written:", sample(model, 1)[0])
