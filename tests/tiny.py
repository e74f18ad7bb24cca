"""Tiny models of every kind, built as the command line builds them, in milliseconds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from isthmus.data.captioned import Example
from isthmus.data.kind import Kind
from isthmus.data.kinds import JOINT, PICTURE, TEXT
from isthmus.models.base import LatentModel, TermsOutput
from isthmus.models.build import build
from isthmus.models.joint.model import JointConfig, JointModel
from isthmus.models.optimus import OptimusModel
from isthmus.models.pictures.model import PictureConfig, PictureModel
from isthmus.settings import (
    DecoderSettings,
    EncoderSettings,
    Settings,
    TextDataSettings,
    TextVAESettings,
    change_kind,
)

# Three words and five special tokens: every sequence of a few tokens can be enumerated.
TEXTS = ["a b c", "c", "b b a c a b c a", "a a", "c b a b c", "b c a c b c"]
LABELS = ["up", "down", "up", None, "up", None]
MAXIMUM_LENGTH = 12


def settings(
    architecture: str = "gpt2",
    bridge: str = "memory+embedding",
    *,
    kind: str = "text-vae",
    encoder: str = "bert",
    pooling: str = "mean",
    posterior: str = "diagonal",
    prior: str = "standard",
    dropout: float = 0.0,
    output: str = "softmax",
    labels: str = "none",
    clusters: int = 0,
    code_dropout: float = 0.0,
    reads_label: bool = False,
    adversary: bool = False,
    latents: int = 1,
    summary: int = 0,
    latent_dropout: float = 0.0,
    start: str = "fresh",
    **options: int | float | bool,
) -> Settings:
    """A recipe for a model of two layers and width 16; options go to the decoder's config."""
    size = {"layers": 2, "hidden_size": 16, "heads": 4, "dropout": dropout}
    text_vae = Settings(
        model=TextVAESettings(
            latent_size=3 if latents == 1 else 4,
            latents=latents,
            summary=summary,
            latent_dropout=latent_dropout,
            start=start,
            bridge=bridge,
            bridge_length=2,
            posterior=posterior,
            prior=prior,
            prior_components=4,
            labels=labels,
            clusters=clusters,
            adversary=adversary,
            encoder=EncoderSettings(
                architecture=encoder, pooling=pooling, reads_label=reads_label, **size
            ),
            decoder=DecoderSettings(
                architecture=architecture, output=output, options=options, **size
            ),
        ),
        data=TextDataSettings(
            tokenizer="word",
            vocabulary_size=8,
            maximum_length=MAXIMUM_LENGTH,
            code_dropout=code_dropout,
        ),
    )
    return change_kind(text_vae, kind)


def loud(model: LatentModel, seed: int = 0) -> LatentModel:
    """Large random weights: with the usual small ones nothing depends on anything to 1e-5."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("prior_module"):  # a flow of random weights is ill-conditioned
                continue
            if parameter.ndim > 1:
                parameter.normal_(std=0.4, generator=generator)
            else:  # norms and biases: away from 1 and 0, so that they are seen
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model


def make(*arguments: str, texts: list[str] = TEXTS, **options) -> LatentModel:
    """The model of :func:`settings`, loud, in evaluation mode."""
    return loud(build(settings(*arguments, **options), texts, LABELS)).eval()


def columns(output: TermsOutput) -> dict[str, torch.Tensor]:
    """Reconstruction, KL and the tensors of the posterior, a row for each example."""
    tensors = {f"posterior {place}": tensor for place, tensor in enumerate(output.posterior)}
    return {"reconstruction": output.reconstruction, "kl": output.kl, **tensors}


def grid(*arguments: str, **options) -> LatentModel:
    """K = 2 latents an example."""
    single = make(*arguments, **options)
    config = copy.deepcopy(single.config)
    config.latents = 2
    return loud(OptimusModel(config, codec=single.codec)).eval()


LANGUAGE = "language-model"


def picture(labels: list[str] | None = None) -> PictureModel:
    """Grey pictures of 4×5 values."""
    size = {"height": 4, "width": 5, "hidden_size": 8, "layers": 1}
    config = PictureConfig(latent_size=3, likelihood="logistic", labels=labels, **size)
    return loud(PictureModel(config)).eval()


def joint(labels: list[str] | None = None) -> JointModel:
    """Such pictures with captions."""
    parts = {"picture": picture(), "caption": make("lstm", "state+input", encoder="lstm")}
    configs = {name: part.config for name, part in parts.items()}
    return loud(JointModel(JointConfig(latent_size=3, labels=labels, **configs), parts)).eval()


TEXT_SYSTEMS: dict[str, Callable[[], LatentModel]] = {
    "language": partial(make, kind=LANGUAGE),
    "gpt2-memory+embedding": partial(make, "gpt2", "memory+embedding"),
    "gpt2-memory": partial(make, "gpt2", "memory"),
    "gpt2-embedding": partial(make, "gpt2", "embedding"),
    "gpt2-prefix": partial(make, "gpt2", "prefix"),
    "gpt2-prefix+memory": partial(make, "gpt2", "prefix+memory"),
    "gpt2-cross": partial(make, "gpt2", "cross-attention", add_cross_attention=True),
    "gpt2-prefix+cross": partial(make, "gpt2", "prefix+cross-attention", add_cross_attention=True),
    "llama-gqa": partial(make, "llama", "memory+embedding", num_key_value_heads=2, head_dim=6),
    "llama-summary": partial(
        make, "llama", "aligned", pooling="blocks", encoder="modernbert", latents=7, summary=2
    ),
    "llama-prefix": partial(make, "llama", "prefix", num_key_value_heads=2),
    "qwen2": partial(make, "qwen2", "memory"),
    "gemma2": partial(make, "gemma2", "memory+embedding", final_logit_softcapping=2.0),
    "granite": partial(make, "granite", "memory+embedding", logits_scaling=3.0),
    "opt": partial(make, "opt", "memory+embedding"),
    "bloom": partial(make, "bloom", "memory+embedding"),
    "gpt_neox": partial(make, "gpt_neox", "memory+embedding"),
    "t5": partial(make, "t5", "cross-attention", encoder="t5"),
    "t5-language": partial(make, "t5", kind=LANGUAGE),
    "lstm-language": partial(make, "lstm", kind=LANGUAGE),
    "lstm": partial(make, "lstm", "state+input", encoder="lstm", pooling="last"),
    "lstm-state": partial(make, "lstm", "state"),
    "lstm-embedding+prefix": partial(make, "lstm", "embedding+prefix+input"),
    "lstm-adaptive": partial(make, "lstm", "state+input", encoder="lstm", output="adaptive"),
    "dilated-cnn-language": partial(make, "dilated-cnn", kind=LANGUAGE),
    "dilated-cnn": partial(make, "dilated-cnn", "input", encoder="lstm", pooling="last"),
    "dilated-cnn-mcnn": partial(make, "dilated-cnn", "input+embedding", preset="mcnn"),
    "t5-adaptive": partial(make, "t5", "cross-attention", encoder="t5", output="adaptive"),
    "gpt2-adaptive": partial(make, "gpt2", "memory+embedding", output="adaptive"),
    "bart": partial(make, "bart", "cross-attention", encoder="bart"),
    "t5-memory": partial(make, "t5", "memory", encoder="t5", d_kv=6),
    "t5-embedding": partial(make, "t5", "embedding", encoder="t5"),
    "t5-all": partial(make, "t5", "prefix+memory+embedding+cross-attention", encoder="t5"),
    "bart-memory": partial(make, "bart", "memory", encoder="bart"),
    "bart-prefix": partial(make, "bart", "prefix", encoder="bart"),
    "bart-memory+cross": partial(make, "bart", "memory+cross-attention", encoder="bart"),
    "gpt2-aligned": partial(make, "gpt2", "aligned+memory", pooling="blocks", latents=5),
    "llama-output": partial(make, "llama", "output+memory"),
    "llama-aligned": partial(make, "llama", "aligned", pooling="blocks", latents=5),
    "chunks": partial(
        make, "feed-forward", "aligned", pooling="blocks", encoder="feed-forward", latents=5
    ),
    "queries": partial(make, "gpt2", "prefix", pooling="queries", latents=2),
    "queries-input": partial(make, "lstm", "state+input", pooling="queries", latents=2),
    "queries-memory": partial(make, "gpt2", "memory+embedding", pooling="queries"),
    "posterior-full": partial(make, posterior="full"),
    "mixture": partial(make, prior="mixture"),
    "vamp": partial(make, prior="vamp"),
    "flow": partial(make, prior="flow"),
    "codebook": partial(make, posterior="quantised"),
    "codebook-aligned": partial(
        make,
        "llama",
        "aligned",
        pooling="blocks",
        latents=5,
        posterior="quantised",
    ),
    "bits": partial(make, posterior="bits"),
    "bits-middle": partial(
        make,
        "llama",
        "middle",
        pooling="blocks",
        latents=5,
        posterior="bits",
    ),
    "grid": grid,
    "labels": partial(make, labels="given"),
    "labels-cnn": partial(make, "dilated-cnn", "input", encoder="lstm", labels="given"),
    "labels-aligned": partial(
        make, "llama", "aligned", pooling="blocks", latents=5, labels="given", reads_label=True
    ),
    "labels-grid": partial(grid, labels="given", reads_label=True, adversary=True),
    "clusters": partial(make, "lstm", "state+input", clusters=3),
    "labels-both": partial(
        make, labels="given", code_dropout=0.2, reads_label=True, adversary=True
    ),
    "codes": partial(make, "gpt2", "start", kind=LANGUAGE, labels="given", code_dropout=0.2),
    "codes-llama": partial(make, "llama", "start+prefix", kind=LANGUAGE, labels="given"),
    "codes-memory": partial(make, "gpt2", "memory+embedding", kind=LANGUAGE, labels="given"),
    "codes-lstm": partial(make, "lstm", "state+input", kind=LANGUAGE, labels="given"),
    "codes-ctrl": partial(make, "ctrl", "start", kind=LANGUAGE, labels="given", dff=32),
}
"""Every system of texts and every kind of decoder."""

SYSTEMS = TEXT_SYSTEMS | {
    "picture": picture,
    "picture-labels": partial(picture, ["down", "up"]),
    "joint": joint,
    "joint-labels": partial(joint, ["down", "up"]),
}
"""Every system; a new one is tested by one line here or above."""

PICTURES = np.random.default_rng(0).integers(0, 256, (len(TEXTS), 1, 4, 5)).astype(np.uint8)
EXAMPLES: dict[Kind, Sequence[Any]] = {
    TEXT: TEXTS,
    PICTURE: PICTURES,
    JOINT: [
        Example(PICTURES[n] if n % 3 else None, text if n % 3 < 2 else None)
        for n, text in enumerate(TEXTS)
    ],
}
"""Six examples of every kind of data; those of several parts have both, or one of them."""


def examples_of(model: LatentModel) -> Sequence[Any]:
    """What a system is tested on."""
    return EXAMPLES[model.kind]


@cache
def system(name: str) -> LatentModel:
    """One shared model of that name; tests that change it take a copy."""
    return SYSTEMS[name]()


def texts_of_npz(stored: Any, field: str) -> list[str]:
    """The texts, or names of pictures, in an .npz file of ``isthmus encode``."""
    content, ends = stored[f"{field}_utf8"].tobytes(), stored[f"{field}_ends"].tolist()
    return [content[i:j].decode() for i, j in zip([0, *ends], ends, strict=False)]
