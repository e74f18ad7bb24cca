"""Optimus: any encoder, a Gaussian, a bridge, any decoder (Li et al. 2020).

With a BERT encoder and a GPT-2 decoder and the bridge "memory+embedding" this is the model of the
paper, to 1e-6 of the authors' logits; every part can be exchanged.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Self, final

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.configuration_utils import SubConfigSpec

from isthmus.errors import IsthmusError
from isthmus.latent.codebook import Codebook, CodebookPrior, Quantised
from isthmus.latent.distribution import Posterior, Prior, precise
from isthmus.latent.objective import charged
from isthmus.latent.pooling import Pooling, has_tokens
from isthmus.latent.posterior import POSTERIORS
from isthmus.models.base import (
    Inference,
    TermsOutput,
    evaluating,
    over_batches,
)
from isthmus.models.bridges import bridge_parts, build_bridge, initialise
from isthmus.models.codec import Batch, TextCodec
from isthmus.models.conditioning import Conditioning
from isthmus.models.config import build_prior
from isthmus.models.encoder import TextEncoder, encoder_from_config
from isthmus.models.generation import Generation
from isthmus.models.inspection import learned_positions, token_embeddings
from isthmus.models.inversion import ROUNDS, Embed, invert
from isthmus.models.label_input import LabelInput
from isthmus.models.no_encoder import GivenVectorsConfig
from isthmus.models.sentence import SentenceSettings
from isthmus.models.states import KeptStates
from isthmus.models.text_model import TextConfig, TextModel, build_decoder, build_label_input
from isthmus.models.tuning import Tuning, freeze
from isthmus.progress import Progress, no_progress
from isthmus.settings.choices import PosteriorKind

Half = Literal["encoder", "decoder"]
"""A part of a model that some uses of it need alone."""


@strict
class OptimusConfig(TextConfig):
    """Everything that rebuilds the model without its weights.

    Args:
        encoder: configuration of the stock encoder.
        pooling: see :mod:`isthmus.latent.pooling`; "pooler" is BERT's own, "own" that of
            ``sentence``; with "given" vectors come with the texts, and there is no encoder.
        sentence: a sentence-transformers encoder, see :mod:`isthmus.models.sentence`.
        posterior: the family of q(z|x), see :mod:`isthmus.latent.posterior`.
        encoder_tuning: "full", "lora" or "frozen".
        encoder_reads_label: q(z|x, y) instead of q(z|x).
        adversary: training includes a network that tries to predict y from z, see
            :meth:`isthmus.models.label_input.LabelInput.adversary_loss`.
        latent_dropout: share of the texts of which training hides latents, see
            :meth:`OptimusModel.shown`.
        bridge_dropout: rate at which training hides numbers of z from the bridge.
    """

    model_type = "isthmus-optimus"
    sub_configs_defaults = {  # noqa: RUF012 - declared so by transformers
        "encoder": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
        "decoder": SubConfigSpec(config_class=AutoConfig, model_type="gpt2"),
    }

    encoder: PreTrainedConfig | dict[str, Any] | None = None
    bridge: str = "memory+embedding"
    pooling: Pooling = "pooler"
    sentence: dict[str, Any] | None = None
    posterior: PosteriorKind = "diagonal"
    encoder_tuning: Tuning = "full"
    encoder_reads_label: bool = False
    adversary: bool = False
    latent_dropout: float = 0.0
    bridge_dropout: float = 0.0

    @property
    def vector_size(self) -> int:
        """E of the vectors that come with the texts; 0 with an encoder."""
        encoder = self.encoder
        return encoder.hidden_size if isinstance(encoder, GivenVectorsConfig) else 0

    @property
    def sentence_settings(self) -> SentenceSettings | None:
        """``sentence`` as an object.

        Raises:
            IsthmusError: it does not go with the pooling.
        """
        if (self.sentence is not None) != (self.pooling == "own"):
            raise IsthmusError(
                f"pooling: got {self.pooling} {'with' if self.sentence else 'without'} sentence, "
                "expected own with it and another without"
            )
        return None if self.sentence is None else SentenceSettings.of(self.sentence)


@final
class OptimusModel(TextModel):
    """q(z|x) by an encoder, p(x|z) by a decoder that gets z through a bridge.

    Args:
        config: sizes and kinds.
        encoder, decoder: stock models to take as they are (pretrained); fresh ones if absent.
        codec: the tokenizers; the command line and :func:`isthmus.load` always give one.
        only: one half, to encode or to decode with, if the other one would be a waste of memory;
            such a model can do nothing else. A VampPrior needs the encoder for both.
    """

    config_class = OptimusConfig
    config: OptimusConfig
    codec: TextCodec

    def __init__(
        self,
        config: OptimusConfig,
        encoder: PreTrainedModel | None = None,
        decoder: PreTrainedModel | None = None,
        codec: TextCodec | None = None,
        only: Half | None = None,
    ) -> None:
        super().__init__(config)
        assert isinstance(config.encoder, PreTrainedConfig)
        stock = encoder_from_config(config.encoder) if encoder is None else encoder
        self.family = POSTERIORS[config.posterior]
        self.encoder = TextEncoder(
            stock,
            self.family,
            self.latent_shape,
            config.pooling,
            config.bridge_length,
            config.summary,
            config.sentence_settings,
            affine="output" in bridge_parts(config.bridge),
        )
        adversary_size = math.prod(self.latent_shape) if config.adversary else 0
        self.labels = build_label_input(config, self.encoder.state_size, adversary_size)
        self.label_head = _label_head(config, self.labels)
        self.decoder = build_decoder(config, decoder)
        width = config.latent_size + (0 if self.labels is None else self.labels.size)
        shape = replace(self.decoder.shape(), pretrained=config.decoder_pretrained)
        self.decoder.text_first = config.decoder_pretrained and learned_positions(
            self.decoder.stack
        )
        details = config.latents - config.summary
        self.bridge = build_bridge(config.bridge, details, width, shape, config.bridge_length)
        initialise(self.bridge)
        self.summary_bridge = None
        if config.summary:
            self.summary_bridge = build_bridge("embedding", config.summary, width, shape)
            initialise(self.summary_bridge)
        self.prior_module = build_prior(config, self.random_pseudo_inputs)
        self.kept_states: KeptStates | None = None
        if codec is not None:
            self.codec = codec
        if only == "encoder":
            self._leave_out("decoder", "bridge", "summary_bridge")
        elif only == "decoder" and config.prior != "vamp":
            self._leave_out("encoder")
        self.finish_init()
        self.tune()
        if only is None:
            self.freeze()

    def _leave_out(self, *parts: str) -> None:
        """Remove parts, and read past their weights."""
        for part in parts:
            delattr(self, part)
        self._keys_to_ignore_on_load_unexpected = [rf"^{part}\." for part in parts]

    def stock_models(self) -> list[tuple[PreTrainedModel, Tuning]]:
        """As for every model of texts; of a half, its own."""
        found: list[tuple[PreTrainedModel, Tuning]] = []
        if hasattr(self, "encoder"):
            found.append((self.encoder.model, self.config.encoder_tuning))
        if hasattr(self, "decoder"):
            found.append((self.decoder.model, self.config.decoder_tuning))
        return found

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Do nothing: every part initialises itself, as its paper does."""

    def train(self, mode: bool = True) -> Self:
        """Training mode for what is trained; a stock model kept fixed has its dropout off."""
        super().train(mode)
        for part, _ in self.stock_models():
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def freeze(self) -> None:
        """Train what the tunings name, the bridge always, and never what no output depends on."""
        freeze(self.encoder.model, self.config.encoder_tuning)
        if self.encoder.sentence is not None:
            self.encoder.sentence.requires_grad_(self.config.encoder_tuning == "full")
        super().freeze()

    def posterior(self, batch: Batch) -> Posterior:
        """q(z|x) of ``input_ids`` under ``attention_mask``, both [N T].

        If the encoder reads a label, q(z|x, y) at the most probable y of q(y|x): a posterior given
        x alone, so that bounds with it are valid.
        """
        pooled = self._pooled(batch)
        y = None
        if self.labels is not None and self.label_head is not None:
            y = self.labels.rows(self.labels(self.encoder.state(pooled)).argmax(-1))
        return self._level(self._posterior(pooled, batch["attention_mask"], y))

    @property
    def codebook(self) -> Codebook | None:
        """The entries that latents are, with the posterior quantised."""
        prior = self.prior_module
        return prior.codebook if isinstance(prior, CodebookPrior) else None

    def invert(
        self,
        vectors: Any,
        encoder: Embed | None = None,
        rounds: int = ROUNDS,
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> list[str]:
        """The texts of vectors [N E] that came without any; see :mod:`isthmus.models.inversion`.

        Args:
            vectors: of the encoder that the model was trained on.
            encoder: that encoder, a function of a list of texts; with it texts are corrected.
            rounds: of correction.
            seed: of its drafts.
            progress: called with the number just done.
        """
        return invert(self, vectors, encoder, rounds=rounds, seed=seed, progress=progress).texts

    def _level(self, posterior: Posterior) -> Posterior:
        """The latents that are in use, see :class:`isthmus.models.base.summarised`."""
        return posterior.latents(slice(self.config.summary)) if self.only_summary else posterior

    def _posterior(self, pooled: Tensor, mask: Tensor, y: Tensor | None) -> Posterior:
        """q(z|x, y), [N P]: y shifts the parameters of q(z|x), if the encoder reads it."""
        shift = None
        if self.label_head is not None and y is not None:
            shift = self.label_head(y.to(pooled))
        found = self.encoder.posterior(pooled, mask, shift)
        if isinstance(found, Quantised) and self.codebook is not None:
            return found.on(self.codebook)
        return found

    @torch.no_grad()
    def pooled(self, texts: Sequence[str], progress: Progress = no_progress) -> Tensor:
        """The encoder's pooled state of texts, [N H], which q(z|x) is a linear map of.

        Within :class:`isthmus.models.base.summarised`, that of the summary.
        """

        def state(batch: Batch) -> Tensor:
            pooled = self._pooled(batch)
            return self.encoder.state(pooled) if self.only_summary else pooled

        with evaluating(self):
            return over_batches(self, self.read(texts).to_encode(), state, progress)

    def _pooled(self, batch: Batch) -> Tensor:
        if self.kept_states is not None:
            return self.kept_states(batch, self.read_states)
        if self.config.vector_size:
            return self.read_states(batch)
        return self.encoder.pooled(batch["attention_mask"], batch["input_ids"])

    @torch.no_grad()
    def read_states(self, batch: Batch) -> Tensor:
        """Pooled states to keep, [N H]: the same in training and evaluation, in full precision."""
        if self.config.vector_size:
            return precise(batch["vectors"])
        with torch.autocast(self.device.type, enabled=False):
            return self.encoder.pooled(batch["attention_mask"], batch["input_ids"])

    def pseudo_posterior(self, pseudo_inputs: Tensor) -> Posterior:
        """q(z|u) of pseudo-inputs [K L E]."""
        mask = torch.ones(pseudo_inputs.shape[:2], dtype=torch.long, device=pseudo_inputs.device)
        found = self.encoder(mask, inputs_embeds=pseudo_inputs)
        return found.latents(slice(self.config.summary)) if self.config.summary else found

    def random_pseudo_inputs(self, count: int) -> Tensor:
        """Where pseudo-inputs of a VampPrior start, [K L E]."""
        return self.encoder.random_embeddings(count, self.config.prior_length)

    def label_posterior(self, batch: Batch) -> Tensor:
        """log q(y|x), [N C]."""
        return self.label_input(self.encoder.state(self._pooled(batch)))

    def forward(self, inference: Inference | None = None, **batch: Any) -> TermsOutput:
        """As for every model; for a batch with ``labels`` [N] (−1: missing), the terms with y.

        ``batch["label_noise"]`` [N C] makes the draw of y a pure function of the batch.
        """
        if self.labels is None or "labels" not in batch:
            return super().forward(inference, **batch)
        pooled, labels = self._pooled(batch), batch["labels"]
        log_q = self.labels(self.encoder.state(pooled))
        known = self.labels.draw(log_q, labels, batch.get("label_noise"))
        posterior = self._posterior(pooled, batch["attention_mask"], known)
        noise = batch.get("noise")
        z = posterior.rsample(noise=None if noise is None else noise.unsqueeze(0))
        y = known
        if (dropped := batch.get("dropped")) is not None:
            y = torch.where(dropped.unsqueeze(-1), self.labels.one_hot(-1, len(y)).to(y), y)
        extra = self.labels.terms(log_q, labels)
        if self.config.adversary:
            extra["adversary"] = self.labels.adversary_loss(posterior.mean.flatten(1), labels)
        seen = self.shown(z, batch)
        shown = z if seen is None else z * seen
        kl = charged(posterior.kl(self.prior, z), seen)
        extra |= self.extra_terms(z, batch) | self._weighed(posterior, kl)
        return TermsOutput(
            reconstruction=self.token_losses(shown[0], y, batch).sum(-1),
            kl=kl,
            posterior=posterior.detach().tensors,
            z=z[0].detach(),
            label=extra.pop("label"),
            extra=extra,
        )

    def terms_under(
        self, posterior: Posterior, prior: Prior, batch: Batch, noise: Tensor | None
    ) -> TermsOutput:
        """As for every model; training adds terms of the posterior that have their own weights."""
        found = super().terms_under(posterior, prior, batch, noise)
        assert found.extra is not None
        found.extra |= self._weighed(posterior, found.bound[1])
        return found

    def _weighed(self, posterior: Posterior, kl: Tensor) -> dict[str, Tensor]:
        """The KL of the summary, and the distance to the codebook, [N] each; in training."""
        if not self.training:
            return {}
        terms = {}
        if self.config.summary:
            terms["summary_kl"] = kl[:, : self.config.summary].flatten(1).sum(1)
        if isinstance(posterior, Quantised) and self.codebook is not None:
            terms["codebook"] = self.codebook.loss(posterior)
        return terms

    def draw(self, z: Tensor, generation: Generation) -> list[str]:
        """As for every model of texts; z between entries of a codebook is the nearest of them."""
        return super().draw(z if self.codebook is None else self.codebook.nearest(z), generation)

    def shown(self, z: Tensor, batch: Batch) -> Tensor | None:
        """Hide some latents of a share of the texts, ``latent_dropout``, in training.

        Each is hidden with a probability that is uniform over these texts, so that the decoder
        learns to go on where latents say nothing. With a summary, whose latents are never hidden,
        that happens to a quarter of these texts only. Another quarter lose all details behind a
        place that is uniform in the text, and half of them all details. So the decoder learns to
        write from the summary alone, to go on from a beginning, and to fill gaps.
        """
        if not (self.training and self.config.latent_dropout) or self.only_summary:
            return None
        summary, texts = self.config.summary, z.shape[1]
        details = self.config.latents - summary
        some, rate, kind = torch.rand(3, texts, 1, device=z.device)
        hidden = torch.rand(texts, details, device=z.device) < rate
        if summary:
            used = has_tokens(batch["attention_mask"], details, self.config.bridge_length).sum(1)
            place = (rate * (used.unsqueeze(1) + 1)).floor()
            behind = torch.arange(details, device=z.device) >= place
            hidden = (kind < 0.5) | torch.where(kind < 0.75, behind, hidden)
        seen = ~(hidden & (some < self.config.latent_dropout))
        seen = nn.functional.pad(seen, (summary, 0), value=True)
        return seen.unsqueeze(-1) if self.config.latents > 1 else seen

    def extra_terms(self, z: Tensor, batch: Batch) -> dict[str, Tensor]:
        """−log p of the text's tokens in any order, from the summary alone (Zhao et al. 2017).

        So the summary soon holds what the text is about. Training alone has this term.
        """
        extra = super().extra_terms(z, batch)
        if self.config.summary and self.training:
            states = self._word_states(z[0])
            extra["words"] = self.decoder.target_losses(states, batch["targets"]).sum(-1)
        return extra

    def log_words(self, z: Tensor) -> Tensor:
        """log p of each token of the vocabulary somewhere in a text: z [N K P] → [N V].

        The decoder's own output layer predicts it, from what the summary adds to its input.
        """
        return self.decoder.logits(self._word_states(z)).float().log_softmax(-1)

    def _word_states(self, z: Tensor) -> Tensor:
        """What takes the place of the decoder's hidden states in :meth:`log_words`, [N H]."""
        assert self.summary_bridge is not None
        rows = self._rows(z, None)[:, : self.config.summary]
        if self.labels is not None:  # beside a label that says nothing
            rows = nn.functional.pad(rows, (0, self.labels.size))
        given = self.decoder.held(self.summary_bridge(rows)).embedding
        assert given is not None
        return nn.functional.rms_norm(given, given.shape[-1:])

    def conditioning(self, z: Tensor, y: Tensor | None = None) -> Conditioning:
        """What the bridge gives the decoder for z [N P], or a grid [N K P], and y [N size].

        Each of the K latents has y beside it.
        """
        rows, summary = self._rows(z, y), self.config.summary
        if self.summary_bridge is None:
            return self.bridge(rows)
        parts = {"summary": self.summary_bridge(rows[:, :summary])}
        if rows.shape[1] > summary:  # else its details are hidden
            parts[self.config.bridge] = self.bridge(rows[:, summary:])
        return Conditioning.merge(parts)

    def _rows(self, z: Tensor, y: Tensor | None) -> Tensor:
        own = next(self.bridge.parameters(), token_embeddings(self.decoder.stack))
        rows = z.to(own).reshape(len(z), -1, self.config.latent_size)
        if self.training and self.config.bridge_dropout:
            rows = nn.functional.dropout(rows, self.config.bridge_dropout)
        if y is None:
            return rows
        return torch.cat([rows, y.to(rows).unsqueeze(1).expand(-1, rows.shape[1], -1)], dim=-1)


def _label_head(config: OptimusConfig, labels: LabelInput | None) -> nn.Linear | None:
    """What a label adds to the numbers of a posterior: nothing at the start."""
    if labels is None or not config.encoder_reads_label:
        return None
    numbers = POSTERIORS[config.posterior].numbers(config.latent_size * config.latents)
    head = nn.Linear(labels.size, numbers, bias=False)
    nn.init.zeros_(head.weight)
    return head
