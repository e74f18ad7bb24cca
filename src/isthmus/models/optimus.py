"""Optimus: any encoder, a diagonal Gaussian, a bridge, any decoder (Li et al. 2020).

With a BERT encoder and a GPT-2 decoder and the bridge "memory+embedding" this is the model of the
paper, to 1e-6 of the authors' logits; every part can be exchanged.
"""

from collections.abc import Sequence
from typing import Any, Self, final

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.configuration_utils import SubConfigSpec

from isthmus.latent.pooling import Pooling
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.base import (
    Inference,
    LatentConfig,
    LatentModel,
    TermsOutput,
    build_prior,
    evaluating,
    over_batches,
)
from isthmus.models.bridges import Conditioning, build_bridge, initialise
from isthmus.models.codec import Batch, TextCodec
from isthmus.models.drawing import draw_texts
from isthmus.models.encoder import TextEncoder, encoder_from_config
from isthmus.models.generation import Generation, SpecialTokens
from isthmus.models.labels import LabelPart
from isthmus.models.output import Output
from isthmus.models.seq2seq import build_decoder
from isthmus.models.tuning import Tuning, apply_tuning, freeze
from isthmus.progress import Progress, no_progress


@strict
class OptimusConfig(LatentConfig):
    """Everything that rebuilds the model without its weights.

    Arguments:
        encoder, decoder: configurations of the stock models.
        bridge: how z enters the decoder, see :mod:`isthmus.models.bridges`.
        bridge_length: soft tokens or context vectors a latent.
        pooling: see :mod:`isthmus.latent.pooling`; "pooler" is BERT's own.
        encoder_tuning, decoder_tuning: "full", "lora" or "frozen".
        lora_rank: rank of the LoRA updates.
        decoder_start, decoder_end, decoder_pad: ids around a text on the decoder's side.
        decoder_output: "softmax", or "adaptive" or "words" for a fresh decoder, see
            :mod:`isthmus.models.output`.
        encoder_reads_label: q(z|x, y) in the place of q(z|x).
        adversary: something tries to tell y from z in training, see
            :meth:`isthmus.models.labels.LabelPart.betrayed`.
    """

    model_type = "isthmus-optimus"
    sub_configs_defaults = {  # noqa: RUF012 - declared so by transformers
        "encoder": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
        "decoder": SubConfigSpec(config_class=AutoConfig, model_type="gpt2"),
    }

    encoder: PreTrainedConfig | dict | None = None
    decoder: PreTrainedConfig | dict | None = None
    bridge: str = "memory+embedding"
    bridge_length: int = 1
    pooling: Pooling = "pooler"
    encoder_tuning: Tuning = "full"
    decoder_tuning: Tuning = "full"
    lora_rank: int = 8
    decoder_start: int = 1
    decoder_end: int = 2
    decoder_pad: int = 0
    decoder_output: Output = "softmax"
    encoder_reads_label: bool = False
    adversary: bool = False


@final
class OptimusModel(LatentModel):
    """q(z|x) by an encoder, p(x|z) by a decoder that gets z through a bridge.

    Arguments:
        config: sizes and kinds.
        encoder, decoder: stock models to take as they are (pretrained); fresh ones if absent.
        codec: the tokenizers; the command line and :func:`isthmus.load` always give one.
    """

    config_class = OptimusConfig
    config: OptimusConfig
    codec: TextCodec
    supports_gradient_checkpointing = True

    def __init__(
        self,
        config: OptimusConfig,
        encoder: PreTrainedModel | None = None,
        decoder: PreTrainedModel | None = None,
        codec: TextCodec | None = None,
    ) -> None:
        super().__init__(config)
        special = SpecialTokens(config.decoder_start, config.decoder_end, config.decoder_pad)
        stock = encoder_from_config(config.encoder) if encoder is None else encoder
        self.encoder = TextEncoder(stock, config.latents * config.latent_size, config.pooling)
        self.labels = _labels(config, stock.config.hidden_size)
        self.label_head = _label_head(config, self.labels)
        self.decoder = build_decoder(config.decoder, decoder, special, config.decoder_output)
        self.bridge = build_bridge(
            config.bridge,
            config.latents,
            config.latent_size + (0 if self.labels is None else self.labels.size),
            self.decoder.shape(),
            config.bridge_length,
        )
        initialise(self.bridge)
        self.prior_module = build_prior(config, self.random_pseudo_inputs)
        if codec is not None:
            self.codec = codec
        self.finish_init()
        # After it: transformers would take the zeros that LoRA starts from for uninitialised.
        apply_tuning(self.encoder.model, config.encoder_tuning, config.lora_rank)
        apply_tuning(self.decoder.model, config.decoder_tuning, config.lora_rank)
        self.freeze()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Every part has initialised itself, as its paper does."""

    def train(self, mode: bool = True) -> Self:
        """Training mode for what is trained; a stock model kept fixed has its dropout off."""
        super().train(mode)
        for part in (self.encoder.model, self.decoder.model):
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def freeze(self) -> None:
        """Train what the tunings name, the bridge always, and never what no output depends on."""
        freeze(self.encoder.model, self.config.encoder_tuning)
        freeze(self.decoder.model, self.config.decoder_tuning)
        y = None if self.labels is None else self.labels.one_hot(0, 1)
        self.decoder.fix_unread(self._conditioning(torch.zeros(1, *self.latent_shape), y))

    def posterior(self, batch: Batch) -> DiagonalGaussian:
        """q(z|x) of ``input_ids`` under ``attention_mask``, both [N T].

        Where the encoder reads a label, q(z|x, y) at the most probable y of q(y|x): a posterior of
        x alone, so that every bound with it is one.
        """
        pooled = self._pooled(batch)
        if self.labels is None or self.label_head is None:
            return self._gridded(self.encoder.gaussian(pooled))
        return self._gaussian(pooled, self.labels.rows(self.labels(pooled).argmax(-1)))

    def _gaussian(self, pooled: Tensor, y: Tensor) -> DiagonalGaussian:
        """q(z|x, y), [N P]: what y adds to the parameters of q(z|x), if the encoder reads it."""
        posterior = self.encoder.gaussian(pooled)
        if self.label_head is None:
            return posterior
        mean, log_variance = self.label_head(y.to(pooled)).chunk(2, dim=-1)
        return DiagonalGaussian(posterior.mean + mean, posterior.log_variance + log_variance)

    @torch.no_grad()
    def pooled(self, texts: Sequence[str], progress: Progress = no_progress) -> Tensor:
        """The encoder's pooled state of texts, [N H], which q(z|x) is a linear map of."""
        with evaluating(self):
            return over_batches(self, self.codec.prepare(texts), self._pooled, progress)

    def _pooled(self, batch: Batch) -> Tensor:
        return self.encoder.pooled(batch["attention_mask"], batch["input_ids"])

    def pseudo_posterior(self, pseudo_inputs: Tensor) -> DiagonalGaussian:
        """q(z|u) of pseudo-inputs [K L E]."""
        mask = torch.ones(pseudo_inputs.shape[:2], dtype=torch.long, device=pseudo_inputs.device)
        return self.encoder(mask, inputs_embeds=pseudo_inputs)

    def random_pseudo_inputs(self, count: int) -> Tensor:
        """Where pseudo-inputs of a VampPrior start, [K L E]."""
        return self.encoder.random_embeddings(count, self.config.prior_length)

    def _gridded(self, posterior: DiagonalGaussian) -> DiagonalGaussian:
        if self.config.latents == 1:
            return posterior
        grid = (self.config.latents, self.config.latent_size)
        return DiagonalGaussian(
            posterior.mean.unflatten(-1, grid), posterior.log_variance.unflatten(-1, grid)
        )

    def label_log_prior(self) -> Tensor:
        """Log p(y), [C]."""
        return super().label_log_prior() if self.labels is None else self.labels.log_prior

    def label_posterior(self, batch: Batch) -> Tensor:
        """Log q(y|x), [N C]."""
        if self.labels is None:
            return super().label_posterior(batch)
        return self.labels(self._pooled(batch))

    def sample_labels(self, count: int, generator: torch.Generator) -> list[str]:
        """Labels from p(y)."""
        return [] if self.labels is None else self.labels.sample(count, generator)

    def forward(self, inference: Inference | None = None, **batch: Any) -> TermsOutput:
        """As for every model; of a batch with ``labels`` [N] (−1: not given) the terms with y.

        ``batch["label_noise"]`` [N C] makes the draw of y a pure function of the batch.
        """
        if self.labels is None or "labels" not in batch:
            return super().forward(inference, **batch)
        pooled, labels = self._pooled(batch), batch["labels"]
        log_q = self.labels(pooled)
        known = self.labels.draw(log_q, labels, batch.get("label_noise"))
        posterior = self._gaussian(pooled, known)
        noise = batch.get("noise")
        z = posterior.rsample(noise=None if noise is None else noise.unsqueeze(0))
        y = known
        if (dropped := batch.get("dropped")) is not None:
            y = torch.where(dropped.unsqueeze(-1), self.labels.one_hot(-1, len(y)).to(y), y)
        extra = self.labels.terms(log_q, labels)
        if self.config.adversary:
            extra["adversary"] = self.labels.betrayed(posterior.mean, labels)
        return TermsOutput(
            reconstruction=self._token_losses(z[0], y, batch).sum(-1),
            kl=posterior.kl(self.prior, z),
            mean=posterior.mean.detach(),
            log_variance=posterior.log_variance.detach(),
            z=z[0].detach(),
            label=extra.pop("label"),
            extra=extra,
        )

    def _conditioning(self, z: Tensor, y: Tensor | None = None) -> Conditioning:
        """The bridge's answer for flat latents [N P] with their y [N C], or a grid [N K P]."""
        rows = z.to(self.encoder.head.weight)
        if y is not None:
            rows = torch.cat([rows, y.to(rows)], dim=-1)
        return self.bridge(rows.reshape(len(z), self.config.latents, -1))

    def _token_losses(self, z: Tensor, y: Tensor | None, batch: Batch) -> Tensor:
        """−log p(x_t|x_<t, z, y) of S·N latents under the N texts of a batch, [S·N T]."""
        samples = len(z) // len(batch["targets"])
        return self.decoder.token_losses(
            self._conditioning(z, y),
            batch["decoder_input_ids"].repeat(samples, 1),
            batch["targets"].repeat(samples, 1),
        )

    def reconstruction(self, z: Tensor, batch: Batch) -> Tensor:
        """−log p(x|z): z [S N P] (or [S N K P]) → [S N], nats, end token included.

        With a label beside z, −log Σ_y p(y) p(x|z, y), one pass of the decoder a label.
        """
        if self.labels is None:
            return self._token_losses(z.flatten(0, 1), None, batch).sum(-1).view(z.shape[:2])
        losses = self.label_token_losses(z, batch).sum(-1)
        return self.labels.summed_out(losses.flatten(1)).view(z.shape[:2])

    def label_token_losses(
        self, z: Tensor, batch: Batch, places: Sequence[int] | None = None
    ) -> Tensor:
        """−log p(x_t|x_<t, z, y), [C S N T]."""
        if self.labels is None:
            return super().label_token_losses(z, batch)
        flat = z.flatten(0, 1)
        every = self.labels.each(places, len(flat))
        each = torch.stack([self._token_losses(flat, y, batch) for y in every])
        return each.unflatten(1, z.shape[:2])

    def draw(self, z: Tensor, generation: Generation) -> list[str]:
        """Texts for latents [N P]; which y they get, :meth:`LabelPart.source` tells."""
        return draw_texts(
            self.decoder,
            self.codec,
            self.labels,
            lambda y: self._conditioning(z, y),
            len(z),
            generation,
        )


def _labels(config: OptimusConfig, hidden_size: int) -> LabelPart | None:
    if not config.label_names:
        return None
    if config.latents != 1:
        raise ValueError(f"a label stands beside one latent vector, got {config.latents}")
    adversary_size = config.latent_size if config.adversary else 0
    return LabelPart(config.label_names, config.null_code, hidden_size, adversary_size)


def _label_head(config: OptimusConfig, labels: LabelPart | None) -> nn.Linear | None:
    """What a label adds to mean and log-variance: nothing at the start."""
    if labels is None or not config.encoder_reads_label:
        return None
    head = nn.Linear(labels.size, 2 * config.latent_size, bias=False)
    nn.init.zeros_(head.weight)
    return head
