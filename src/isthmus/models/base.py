"""The small interface that everything with a latent obeys.

Modules with a configuration do without postponed annotations: @strict checks types, not strings.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from isthmus.errors import IsthmusError
from isthmus.latent.distribution import Posterior, Prior
from isthmus.latent.objective import Terms
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.latent.prior import PRIORS, PriorModule, PriorSizes
from isthmus.models.codec import Batch, Codec, Examples, predicted
from isthmus.models.generation import Generation
from isthmus.models.memory import fit_on
from isthmus.progress import Progress, no_progress
from isthmus.settings.choices import PriorKind

TEXTS_AT_ONCE = 128
"""Texts that are generated side by side, on a processor."""

TOKENS_AT_ONCE = 2048
"""Decoder tokens in one forward pass outside training, on a processor: bounds memory whatever S
and N are, and stays within its cache."""

Inference = Callable[["LatentModel", Batch], "TermsOutput"]
"""Another way from a batch to its terms than one draw from the encoder's posterior."""


@strict
class LatentConfig(PreTrainedConfig):
    """What every model with a latent states about it.

    Arguments:
        latent_size: P; 0 for a plain language model.
        latents: K, latents an example; 1 for a single vector.
        prior: "standard", "mixture", "vamp" or "flow".
        prior_components: components of the mixture or pseudo-inputs of VampPrior.
        prior_length: tokens of a pseudo-input.
        prior_transforms: transforms of the flow.
        prior_hidden_size: width of the flow's networks.
    """

    latent_size: int = 32
    latents: int = 1
    prior: PriorKind = "standard"
    prior_components: int = 64
    prior_length: int = 12
    prior_transforms: int = 3
    prior_hidden_size: int = 64

    def __post_init__(self, **settings: Any) -> None:
        # transformers chooses the attention of the parts anew, and with it whether their padding
        # is masked: in the configuration of a model that exists already this must not happen.
        for part in self.sub_configs_defaults:
            setattr(self, part, copy.deepcopy(getattr(self, part)))
        super().__post_init__(**settings)


@final
@dataclass
class TermsOutput(ModelOutput):
    """What ``forward`` returns, as tensors, so that data-parallel wrappers can carry it.

    Arguments:
        reconstruction: −log p(x|z) at the draws, [N], nats.
        kl: KL(q(z|x) ‖ p(z)), [N P] or [N 1], nats.
        posterior: tensors of q(z|x), without gradient; see :attr:`LatentModel.family`.
        z: the first draw, without gradient, [N P].
        label, shares, extra: see :class:`Terms`.
    """

    reconstruction: Tensor | None = None
    kl: Tensor | None = None
    posterior: tuple[Tensor, ...] | None = None
    z: Tensor | None = None
    label: Tensor | None = None
    shares: dict[str, Tensor] | None = None
    extra: dict[str, Tensor] | None = None

    @property
    def terms(self) -> Terms:
        """The terms in float32, for the objective."""
        return Terms(
            self.reconstruction.float(),
            self.kl.float(),
            None if self.label is None else self.label.float(),
            {name: share.float() for name, share in (self.shares or {}).items()},
            {name: term.float() for name, term in (self.extra or {}).items()},
        )


class LatentModel(PreTrainedModel, ABC):
    """A model with a latent: encode, decode, terms.

    A system implements :meth:`posterior`, :meth:`reconstruction` and :meth:`draw`; training,
    evaluation, exploration and the command line use nothing else.
    """

    config_class = LatentConfig
    config: LatentConfig
    # A per-example loss is no mean over tokens: the Trainer must not rescale it (see train.py).
    accepts_loss_kwargs = False
    symbols_a_token: ClassVar[int] = 1
    """How many of this model's symbols (what its batches' ``lengths`` count) cost as much as a
    token; tokens of texts, values of pictures."""
    prior_module: PriorModule
    family: type[Posterior] = DiagonalGaussian
    """What q(z|x) is."""
    codec: Codec

    @abstractmethod
    def freeze(self) -> None:
        """Choose what is trained, by the tunings of the configuration.

        Loading makes every weight trainable again. What brings z into a frozen decoder is trained
        all the same: through a fixed random map, which Park & Lee's code has (2021), little would
        arrive.
        """

    @abstractmethod
    def posterior(self, batch: Batch) -> Posterior:
        """q(z|x) of a batch, [N P]."""

    @abstractmethod
    def reconstruction(self, z: Tensor, batch: Batch) -> Tensor:
        """−log p(x|z) in nats of every example under each of S latents: z [S N P] → [S N]."""

    @abstractmethod
    def draw(self, z: Tensor, generation: Generation) -> list[Any]:
        """Examples from p(x|z), texts or pictures, one for each latent of [N P]."""

    @abstractmethod
    def pseudo_posterior(self, pseudo_inputs: Tensor) -> Posterior:
        """q(z|u) of pseudo-inputs [K L E], which a VampPrior is made of."""

    def finish_init(self) -> None:
        """What every system calls when it is whole: transformers' bookkeeping of all its parts.

        post_init learns of tied weights from direct children only; the stock models stand deeper.
        """
        self.post_init()
        here = {name for name, _ in self.named_parameters(remove_duplicate=False)}
        tied = self.get_expanded_tied_weights_keys(all_submodels=True)
        self.all_tied_weights_keys |= {name: tied[name] for name in tied.keys() & here}

    @property
    def prior(self) -> Prior:
        """p(z) at the present parameters."""
        return self.prior_module(self.pseudo_posterior)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the parts of an example, of a model with several; empty for others."""
        return ()

    def symbols(self, batch: Batch) -> int:
        """Symbols that a batch has the decoder predict."""
        return sum(targets.numel() for targets in predicted(batch))

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(P,), or (K, P) for a grid of latents."""
        size = self.config.latent_size
        return (size,) if self.config.latents == 1 else (self.config.latents, size)

    def forward(self, inference: Inference | None = None, **batch: Any) -> TermsOutput:
        """The terms of one draw from each posterior, in nats, unweighted.

        ``batch["noise"]`` [N P] makes the draw a pure function of the batch. ``inference`` takes
        the place of all this in training; it runs in here, where data-parallel wrappers look.
        """
        if inference is not None:
            return inference(self, batch)
        noise = batch.get("noise")
        noise = None if noise is None else noise.unsqueeze(0)
        return self.terms_under(self.posterior(batch), self.prior, batch, noise)

    def terms_under(
        self, posterior: Posterior, prior: Prior, batch: Batch, noise: Tensor | None
    ) -> TermsOutput:
        """The terms of a batch under any posteriors, mean over S draws with noise [S N P]."""
        z = posterior.rsample(noise=noise)
        return TermsOutput(
            reconstruction=self.reconstruction(z, batch).mean(0),
            kl=posterior.kl(prior, z),
            posterior=posterior.detach().tensors,
            z=z[0].detach(),
            extra=self.extra_terms(z, batch),
        )

    def extra_terms(self, z: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Terms outside the bound under S latents [S N P], [N] each; see :class:`Terms`."""
        return {}

    @torch.no_grad()
    def encode(self, texts: Sequence[Any], progress: Progress = no_progress) -> Posterior:
        """q(z|x) of texts (or pictures), in order, without dropout; the mean is the embedding.

        Example:
            >>> model.encode(["a red circle"]).mean.shape  # doctest: +SKIP
            torch.Size([1, 32])
        """
        with evaluating(self):
            examples = self.codec.prepare(texts)
            return encode_examples(self, examples, progress)

    @torch.no_grad()
    def decode(
        self, z: Tensor, generation: Generation | None = None, progress: Progress = no_progress
    ) -> list[Any]:
        """Texts (or pictures) for latents [... P] (or [... K P]), greedy by default, in order."""
        settings = Generation() if generation is None else generation
        if settings.part and settings.part not in self.kinds:
            kinds = ", ".join(self.kinds) or "none: it is a model of one kind of data"
            raise IsthmusError(f"part: got {settings.part!r}, this model has {kinds}")
        before = z.ndim - len(self.latent_shape)
        flat = (z.flatten(0, before - 1) if before else z.unsqueeze(0)).to(self.device)
        rows = fit_on(self.device, TEXTS_AT_ONCE)
        # Seeded once for all parts: seeding each would give every part the same draws.
        with evaluating(self), torch.random.fork_rng(enabled=settings.sample):
            if settings.sample:
                torch.manual_seed(settings.seed)
            texts = []
            for part in flat.split(rows):
                texts += self.draw(part, settings)
                progress(len(part))
            return texts

    @torch.no_grad()
    def terms(
        self, texts: Sequence[Any], seed: int = 0, posterior: Posterior | None = None
    ) -> Terms:
        """Reconstruction [N] and KL [N P] of texts (or pictures), nats, from one draw of z each.

        Draws are from the encoder's posterior, or from another one of these texts.
        """
        with evaluating(self):
            examples = self.codec.prepare(texts)
            parts, order = [], []
            options = {"seed": seed, "noise_shape": self.latent_shape}
            for indices, batch in in_batches(self, examples, **options):
                own = self.posterior(batch) if posterior is None else posterior[indices]
                noise = batch["noise"].unsqueeze(0)
                parts.append(self.terms_under(own.to(self.device), self.prior, batch, noise))
                order += indices
            back = torch.tensor(order).argsort()
            return Terms(
                torch.cat([part.reconstruction for part in parts]).cpu()[back],
                torch.cat([part.kl for part in parts]).cpu()[back],
            )


class evaluating:
    """Dropout off inside the block, the former mode after it."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.training = self.model.training
        self.model.eval()

    def __exit__(self, *_: object) -> None:
        self.model.train(self.training)


def tokens_at_once(model: LatentModel) -> int:
    """How many decoder symbols to take in one forward pass where the model is."""
    return fit_on(model.device, TOKENS_AT_ONCE * model.symbols_a_token)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The tensors of a batch on the model's device."""
    return {name: value.to(device) for name, value in batch.items()}


def in_batches(
    model: LatentModel,
    examples: Examples,
    progress: Progress = no_progress,
    *,
    share: int = 1,
    **options: Any,
) -> Iterator[tuple[list[int], Batch]]:
    """Places and batches of examples, on the model's device, as large as memory suits.

    Args:
        model: where it is, batches are brought.
        examples: prepared by its codec.
        progress: called with the number just done.
        share: batches are smaller than usual by this factor.
        options: of :meth:`Examples.collate`.
    """
    for indices in examples.batches(max(1, tokens_at_once(model) // share)):
        yield indices, to_device(examples.collate(indices, **options), model.device)
        progress(len(indices))


@torch.no_grad()
def encode_examples(
    model: LatentModel, examples: Examples, progress: Progress = no_progress
) -> Posterior:
    """q(z|x) of prepared examples, in their order, in main memory."""
    parts, order = [], []
    for indices, batch in in_batches(model, examples, progress):
        parts.append(model.posterior(batch).cpu())
        order += indices
    return Posterior.concatenate(parts)[torch.tensor(order).argsort()]


@torch.no_grad()
def over_batches(
    model: LatentModel,
    examples: Examples,
    function: Callable[[Batch], Tensor],
    progress: Progress = no_progress,
) -> Tensor:
    """What a function says of every example, [N …], in their order, in main memory.

    Arguments:
        model: where it is, batches are brought.
        examples: prepared by its codec.
        function: of a batch, a row for each of its examples.
        progress: called with the number just done.
    """
    parts, order = [], []
    for indices, batch in in_batches(model, examples, progress):
        parts.append(function(batch).cpu())
        order += indices
    return torch.cat(parts)[torch.tensor(order).argsort()]


def build_prior(
    config: LatentConfig, pseudo_inputs: Callable[[int], Tensor] | None = None
) -> PriorModule:
    """The prior that a configuration names.

    Args:
        config: the model's configuration.
        pseudo_inputs: makes K inputs [K L E] of the encoder, where a VampPrior starts.
    """
    kind, grid = PRIORS[config.prior], config.latents > 1
    if grid and not kind.takes_grids:
        raise ValueError(
            f"a grid of {config.latents} latents has a standard prior, got {config.prior!r}"
        )
    size = config.latent_size
    return kind(
        PriorSizes(
            (config.latents, size) if grid else (size,),
            config.prior_components,
            config.prior_transforms,
            config.prior_hidden_size,
            pseudo_inputs,
        )
    )
