"""The small interface of every model with a latent.

Modules with a configuration do without postponed annotations: @strict checks types, not strings.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from isthmus.data.kind import Kind
from isthmus.data.kinds import of_model
from isthmus.errors import IsthmusError
from isthmus.latent.distribution import Posterior, Prior
from isthmus.latent.noise import example_noise, in_whole
from isthmus.latent.objective import Terms, charged
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.latent.prior_module import PriorModule, WithDetails
from isthmus.models.codec import Batch, Codec, Examples, predicted, short
from isthmus.models.config import LatentConfig
from isthmus.models.generation import Generation
from isthmus.models.memory import fit_on
from isthmus.progress import Progress, no_progress

TEXTS_AT_ONCE = 128
"""Texts that a CPU generates at a time."""

TOKENS_AT_ONCE = 2048
"""Decoder tokens of a CPU's pass outside training: bounds memory, and stays within the cache."""

_log = logging.getLogger(__name__)

_SUMMARISED: ContextVar["LatentModel | None"] = ContextVar("summarised", default=None)
"""The model whose latent is its summary at present, in this thread."""

Inference = Callable[["LatentModel", Batch], "TermsOutput"]
"""A way to compute the terms of a batch other than by one draw from the encoder's posterior."""


@final
@dataclass
class TermsOutput(ModelOutput):
    """What ``forward`` returns, as tensors, so that data-parallel wrappers can carry it.

    Args:
        reconstruction: −log p(x|z) at the draws, [N], nats.
        kl: KL(q(z|x) ‖ p(z)), [N P] or [N 1], nats.
        posterior: tensors of q(z|x), without gradient; see :attr:`LatentModel.family`.
        z: the first draw, without gradient, [N P].
        label, shares, extra: see :class:`Terms`.
    """

    # ModelOutput allows one field without a default; every model returns these four.
    reconstruction: Tensor
    kl: Tensor = None  # type: ignore[assignment]
    posterior: tuple[Tensor, ...] = None  # type: ignore[assignment]
    z: Tensor = None  # type: ignore[assignment]
    label: Tensor | None = None
    shares: dict[str, Tensor] | None = None
    extra: dict[str, Tensor] | None = None

    @property
    def bound(self) -> tuple[Tensor, Tensor]:
        """Reconstruction and KL."""
        assert self.reconstruction is not None
        assert self.kl is not None
        return self.reconstruction, self.kl

    @property
    def terms(self) -> Terms:
        """The terms in float32, for the objective."""
        reconstruction, kl = self.bound
        return Terms(
            reconstruction.float(),
            kl.float(),
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
    # A per-example loss is not a mean over tokens: the Trainer must not rescale it.
    accepts_loss_kwargs = False
    symbols_a_token: ClassVar[int] = 1
    """Number of this model's symbols (tokens, or values of pictures, which the ``lengths`` of its
    batches count) that cost as much as a token."""
    prior_module: PriorModule
    lost: str = ""
    """What the examples read last lost."""
    family: type[Posterior] = DiagonalGaussian
    """The family of q(z|x)."""
    codec: Codec

    @abstractmethod
    def freeze(self) -> None:
        """Choose what to train, by the tunings of the configuration; loading undoes the choice.

        What brings z into a frozen decoder is always trained: a fixed random map, as in the code
        of Park & Lee (2021), would pass on little.
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
        """q(z|u) of pseudo-inputs [K L E], the components of a VampPrior."""

    def finish_init(self) -> None:
        """End ``__init__`` of every system with the bookkeeping of transformers.

        ``post_init`` finds the tied weights of direct children only; stock models are deeper.
        """
        self.post_init()
        here = {name for name, _ in self.named_parameters(remove_duplicate=False)}
        tied = self.get_expanded_tied_weights_keys(all_submodels=True)
        self.all_tied_weights_keys |= {name: tied[name] for name in tied.keys() & here}

    @property
    def only_summary(self) -> bool:
        """Whether the latent is the summary by itself, see :class:`summarised`."""
        return _SUMMARISED.get() is self

    @property
    def prior(self) -> Prior:
        """p(z) at the current parameters."""
        prior, summary = self.prior_module(self.pseudo_posterior), self.config.summary
        if not summary or self.only_summary:
            return prior
        return WithDetails(prior, self.config.latents - summary)

    @property
    def kind(self) -> Kind:
        """The kind of its examples."""
        return of_model(self.config.model_type)

    @property
    def members(self) -> "dict[str, LatentModel]":
        """The models of its modalities; the only member of a model without any is itself."""
        return {"": self}

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the parts of an example, of a model with several; empty for others."""
        return tuple(name for name in self.members if name)

    def member(self, kind: Kind) -> "LatentModel | None":
        """The member with examples of a kind, if there is one."""
        return next((one for one in self.members.values() if one.kind is kind), None)

    def symbols(self, batch: Batch) -> int:
        """Number of symbols of a batch that the decoder predicts."""
        return sum(targets.numel() for targets in predicted(batch))

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(P,), or (K, P) for a grid of latents; (G, P) within :class:`summarised`."""
        of = self.config
        if of.latents == 1:
            return (of.latent_size,)
        return (of.summary if self.only_summary else of.latents, of.latent_size)

    def forward(self, inference: Inference | None = None, **batch: Any) -> TermsOutput:
        """The terms of one draw from each posterior, in nats, unweighted.

        ``batch["noise"]`` [N P] makes the draw a pure function of the batch. In training
        ``inference`` can replace all this; it runs here, where data-parallel wrappers look.
        """
        if inference is not None:
            return inference(self, batch)
        noise = batch.get("noise")
        noise = None if noise is None else noise.unsqueeze(0)
        return self.terms_under(self.posterior(batch), self.prior, batch, noise)

    def terms_under(
        self, posterior: Posterior, prior: Prior, batch: Batch, noise: Tensor | None
    ) -> TermsOutput:
        """The terms of a batch under any posterior, mean over S draws with noise [S N P]."""
        z = posterior.rsample(noise=noise)
        seen = self.shown(z, batch)
        return TermsOutput(
            reconstruction=self.reconstruction(z if seen is None else z * seen, batch).mean(0),
            kl=charged(posterior.kl(prior, z), seen),
            posterior=posterior.detach().tensors,
            z=z[0].detach(),
            extra=self.extra_terms(z, batch),
        )

    def shown(self, z: Tensor, batch: Batch) -> Tensor | None:
        """1 for what the decoder sees of draws z [S N K P], else 0, [N K 1]; None for all.

        In training a model may hide some latents, which are zeros then and cost nothing.
        """
        return None

    def extra_terms(self, z: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Terms outside the bound under S latents [S N P], [N] each; see :class:`Terms`."""
        return {}

    def read(self, examples: Any) -> Examples:
        """Examples, or one of them, as the model takes them in.

        A line on standard error says what is lost: texts that are cut, words that are unknown.

        Raises:
            IsthmusError: no example, or one of another kind.
        """
        kind = self.kind
        if isinstance(examples, dict | bytes | None) or not hasattr(examples, "__iter__"):
            raise IsthmusError(
                f"{kind.field}s: got {short(examples)}, expected a list of {kind.field}s"
            )
        if isinstance(examples, str) and not kind.has_text:
            raise IsthmusError(f"pictures: got the text {short(examples)}, expected uint8 arrays")
        prepared = self.codec.prepare([examples] if isinstance(examples, str) else examples)
        if not len(prepared):
            raise IsthmusError(f"{kind.field}s: got none, expected at least one")
        lost = prepared.lost()
        if lost and lost != self.lost:  # one line for several passes over the same examples
            _log.warning("read: %s", lost)
        self.lost = lost
        return prepared

    @torch.no_grad()
    def encode(self, texts: Any, progress: Progress = no_progress) -> Posterior:
        """q(z|x) of texts (or pictures), in order, without dropout; the mean is the embedding.

        One text or picture counts as a list of one.

        Examples:
            >>> model.encode(["a red circle"]).mean.shape  # doctest: +SKIP
            torch.Size([1, 32])
        """
        with evaluating(self):
            return encode_examples(self, self.read(texts), progress)

    @torch.no_grad()
    def decode(
        self, z: Any, generation: Generation | None = None, progress: Progress = no_progress
    ) -> list[Any]:
        """Texts (or pictures) for latents [... P] (or [... K P]), greedy by default, in order.

        A tensor, an array or lists of numbers.
        """
        z = self.as_latents(z)
        settings = Generation() if generation is None else generation
        if settings.part and settings.part not in self.modalities:
            known = ", ".join(self.modalities) or "none: it is a model of one kind of data"
            raise IsthmusError(f"part: got {settings.part!r}, this model has {known}")
        before = z.ndim - len(self.latent_shape)
        if before and not len(z):
            return []
        flat = (z.flatten(0, before - 1) if before else z.unsqueeze(0)).to(self.device)
        rows = fit_on(self.device, TEXTS_AT_ONCE)
        # Seeded once: seeding each part would give all of them the same draws.
        with evaluating(self), torch.random.fork_rng(enabled=settings.sample):
            if settings.sample:
                torch.manual_seed(settings.seed)
            texts = []
            for part in flat.split(rows):
                texts += self.draw(part, settings)
                progress(len(part))
            return texts

    def as_latents(self, given: Any) -> Tensor:
        """Latents as a tensor that the decoder takes; a summary [... G P] gets hidden details."""
        try:
            z = given if isinstance(given, Tensor) else torch.as_tensor(np.asarray(given))
        except (TypeError, ValueError, RuntimeError):
            raise IsthmusError(f"latents: got {short(given)}, expected numbers") from None
        if z.is_complex() or z.layout != torch.strided:
            raise IsthmusError(f"latents: got {short(given)}, expected a dense tensor of numbers")
        if not z.is_floating_point() or z.dtype == torch.double:
            z = z.to(self.dtype)
        shape, summary = self.latent_shape, self.config.summary
        if summary and z.ndim > 1 and z.shape[-2:] == (summary, shape[1]):
            z = nn.functional.pad(z, (0, 0, 0, shape[0] - summary))  # with hidden details
        if z.ndim < len(shape) or tuple(z.shape[z.ndim - len(shape) :]) != shape:
            expected = ", ".join(map(str, ["…", *shape]))
            raise IsthmusError(
                f"latents: got the shape {list(z.shape)}, expected [{expected}] for this model"
            )
        if not z.isfinite().all():
            raise IsthmusError("latents: some hold NaN or infinity, expected finite numbers")
        return z

    @torch.no_grad()
    def terms(
        self,
        texts: Any,
        seed: int = 0,
        posterior: Posterior | None = None,
        places: Sequence[int] | None = None,
    ) -> Terms:
        """Reconstruction [N] and KL [N P] of texts (or pictures), nats, from one draw of z each.

        Draws are from the encoder's posterior, or from the given one of these texts. With places
        they are those of a whole of which the texts are a part.
        """
        with evaluating(self):
            examples = self.read(texts)
            parts, order, shape = [], [], self.latent_shape
            for indices, batch in in_batches(self, examples, seed=seed, noise_shape=shape):
                own = self.posterior(batch) if posterior is None else posterior[indices]
                noise = batch["noise"]
                if places is not None:
                    noise = example_noise(seed, 0, in_whole(places, indices), shape).to(noise)
                found = self.terms_under(own.to(self.device), self.prior, batch, noise[None])
                parts.append(found.bound)
                order += indices
            back = torch.tensor(order).argsort()
            reconstruction, kl = (torch.cat(part).cpu()[back] for part in zip(*parts, strict=True))
            return Terms(reconstruction, kl)


class summarised:
    """Inside the block the latent of a model with two levels is its summary, [N G P].

    Its details are hidden, from the posterior, the prior and the decoder: this is a VAE of its
    own, which has the same encoder and decoder. Other models, and other threads, see nothing of
    it: the studio answers while it encodes its map.
    """

    def __init__(self, model: LatentModel) -> None:
        self.model = model

    def __enter__(self) -> None:
        levels = self.model.config.summary > 0
        self.before = _SUMMARISED.set(self.model if levels else _SUMMARISED.get())

    def __exit__(self, *_: object) -> None:
        _SUMMARISED.reset(self.before)


def summary_of(model: LatentModel, z: Tensor) -> Tensor:
    """The summary of latents [... K P], what they say as a whole: [... G P].

    Distances, clusters and probes are of it, because details belong to places in an example. All
    of z for a model with one level.
    """
    summary = model.config.summary
    return z[..., :summary, :] if summary else z


class evaluating:
    """Switch dropout off inside the block, and restore the former mode after it."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.training = self.model.training
        self.model.eval()

    def __exit__(self, *_: object) -> None:
        self.model.train(self.training)


def tokens_at_once(model: LatentModel) -> int:
    """Number of decoder symbols per forward pass on the model's device."""
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
    """Indices and batches of examples, on the model's device, as large as suits its memory.

    Args:
        model: decides the device and the size of batches.
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
    tensors: list[Tensor] = []
    for indices, batch in in_batches(model, examples.to_encode(), progress):
        found = model.posterior(batch).cpu()
        tensors = tensors or [t.new_empty(len(examples), *t.shape[1:]) for t in found.tensors]
        for tensor, part in zip(tensors, found.tensors, strict=True):
            tensor[indices] = part
    return type(found)(*tensors)


@torch.no_grad()
def over_batches(
    model: LatentModel,
    examples: Examples,
    function: Callable[[Batch], Tensor],
    progress: Progress = no_progress,
) -> Tensor:
    """The values of a function for all examples, [N …], in their order, in main memory.

    Args:
        model: decides the device and the size of batches.
        examples: prepared by its codec.
        function: maps a batch to one row per example.
        progress: called with the number just done.
    """
    parts, order = [], []
    for indices, batch in in_batches(model, examples, progress):
        parts.append(function(batch).cpu())
        order += indices
    return torch.cat(parts)[torch.tensor(order).argsort()]
