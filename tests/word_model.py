"""A text model of a few lines: every token is drawn from softmax(Bz + a), whatever its place."""

import torch
from huggingface_hub.dataclasses import strict

from isthmus.data.batches import IGNORED
from isthmus.data.tokens import train_word_level
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.base import LatentModel
from isthmus.models.codec import make_codec
from isthmus.models.config import LatentConfig, build_prior

WORDS = "a b c d e f g h"


@strict
class WordConfig(LatentConfig):
    """Nothing but the latent."""


class WordModel(LatentModel):
    """Alive from the start: each word of a text moves z, and z moves each word's probability."""

    config_class = WordConfig

    def __init__(self, texts, latent_size=4, maximum_length=16):
        super().__init__(WordConfig(latent_size=latent_size))
        tokenizer = train_word_level([WORDS], 100)
        self.codec = make_codec(tokenizer, tokenizer, maximum_length)
        self.vocabulary = len(tokenizer)
        generator = torch.Generator().manual_seed(0)
        directions = torch.randn(self.vocabulary, latent_size, generator=generator)
        self.reading = torch.nn.Parameter(directions)  # [V P]
        self.writing = torch.nn.Parameter(directions.clone())  # [V P]
        self.bias = torch.nn.Parameter(torch.zeros(self.vocabulary))
        self.log_variance = -2.0
        self.prior_module = build_prior(self.config)
        self.memory = texts

    def freeze(self):
        """Every weight is trained."""

    def posterior(self, batch):
        words = self.reading[batch["input_ids"]] * batch["attention_mask"].unsqueeze(-1)
        mean = words.sum(1) / 2
        return DiagonalGaussian(mean, torch.full_like(mean, self.log_variance))

    def reconstruction(self, z, batch):
        log_probability = (z @ self.writing.T + self.bias).log_softmax(-1)  # [S N V]
        targets = batch["targets"].expand(len(z), -1, -1)
        chosen = log_probability.gather(-1, targets.clamp_min(0))
        return -(chosen * (targets != IGNORED)).sum(-1)

    def draw(self, z, generation):
        """The remembered text whose posterior mean is nearest."""
        nearest = torch.cdist(z, self.encode(self.memory).mean).argmin(1)
        return [self.memory[index] for index in nearest.tolist()]

    def pseudo_posterior(self, pseudo_inputs):
        raise AssertionError("no prior of this model is made of posteriors")
