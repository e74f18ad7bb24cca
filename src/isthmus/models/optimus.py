"""Optimus: any encoder, a diagonal Gaussian, a bridge, any decoder (Li et al. 2020).

With a BERT encoder and a GPT-2 decoder and the bridge "memory+embedding" this is the model of the
paper, to 1e-6 of the authors' logits; every part can be exchanged.
"""

from collections.abc import Sequence
from typing import Any, Self, final

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor
from transformers import (
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.configuration_utils import SubConfigSpec

from isthmus.bridge import build_bridge, initialise
from isthmus.latent.pooling import Pooling
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.base import (
    LatentConfig,
    LatentModel,
    Progress,
    build_prior,
    evaluating,
    to_device,
    tokens_at_once,
    untold,
)
from isthmus.models.codec import Batch, TextCodec
from isthmus.models.decoder import (
    CausalDecoder,
    Decoder,
    Generation,
    Seq2SeqDecoder,
    SpecialTokens,
)
from isthmus.models.encoder import TextEncoder, encoder_from_config
from isthmus.models.tuning import Tuning, apply_tuning, freeze


@strict
class OptimusConfig(LatentConfig):
    """Everything that rebuilds the model without its weights.

    Arguments:
        encoder, decoder: configurations of the stock models.
        bridge: how z enters the decoder, see :mod:`isthmus.bridge`.
        bridge_length: soft tokens or context vectors a latent.
        pooling: see :mod:`isthmus.latent.pooling`; "pooler" is BERT's own.
        encoder_tuning, decoder_tuning: "full", "lora" or "frozen".
        lora_rank: rank of the LoRA updates.
        decoder_start, decoder_end, decoder_pad: ids around a text on the decoder's side.
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
        self.decoder = _decoder(config.decoder, decoder, special)
        self.bridge = build_bridge(
            config.bridge,
            config.latents,
            config.latent_size,
            self.decoder.shape(),
            config.bridge_length,
        )
        initialise(self.bridge)
        pseudo = None
        if config.prior == "vamp":
            pseudo = self.encoder.random_embeddings(config.prior_components, config.prior_length)
        self.prior_module = build_prior(config, pseudo)
        if codec is not None:
            self.codec = codec
        self.finish_init()
        # After it: transformers would take the zeros that LoRA starts from for uninitialised.
        apply_tuning(self.encoder.model, config.encoder_tuning, config.lora_rank)
        apply_tuning(self.decoder.model, config.decoder_tuning, config.lora_rank)

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Every part has initialised itself, as its paper does."""

    def train(self, mode: bool = True) -> Self:
        """Training mode for what is trained; a frozen part keeps its dropout off."""
        super().train(mode)
        if self.config.encoder_tuning == "frozen":
            self.encoder.model.eval()
        if self.config.decoder_tuning == "frozen":
            self.decoder.model.eval()
        return self

    def freeze(self) -> None:
        """Keep fixed what the tunings of encoder and decoder do not train."""
        freeze(self.encoder.model, self.config.encoder_tuning)
        freeze(self.decoder.model, self.config.decoder_tuning)

    def posterior(self, batch: Batch) -> DiagonalGaussian:
        """q(z|x) of ``input_ids`` under ``attention_mask``, both [N T]."""
        return self._gridded(self.encoder(batch["attention_mask"], input_ids=batch["input_ids"]))

    @torch.no_grad()
    def pooled(self, texts: Sequence[str], progress: Progress = untold) -> Tensor:
        """The encoder's pooled state of texts, [N H], which q(z|x) is a linear map of."""
        with evaluating(self):
            examples = self.codec.prepare(texts)
            parts, order = [], []
            for indices in examples.batches(tokens_at_once(self)):
                batch = to_device(examples.collate(indices), self.device)
                parts.append(self.encoder.pooled(batch["attention_mask"], batch["input_ids"]))
                order += indices
                progress(len(indices))
            return torch.cat(parts).cpu()[torch.tensor(order).argsort()]

    def pseudo_posterior(self, pseudo_inputs: Tensor) -> DiagonalGaussian:
        """q(z|u) of pseudo-inputs [K L E]."""
        mask = torch.ones(pseudo_inputs.shape[:2], dtype=torch.long, device=pseudo_inputs.device)
        return self.encoder(mask, inputs_embeds=pseudo_inputs)

    def _gridded(self, posterior: DiagonalGaussian) -> DiagonalGaussian:
        if self.config.latents == 1:
            return posterior
        grid = (self.config.latents, self.config.latent_size)
        return DiagonalGaussian(
            posterior.mean.unflatten(-1, grid), posterior.log_variance.unflatten(-1, grid)
        )

    def _conditioning(self, z: Tensor) -> Any:
        """The bridge's answer for flat latents [N P] or a grid [N K P]."""
        weight = next(self.bridge.parameters())
        return self.bridge(z.reshape(len(z), self.config.latents, -1).to(weight))

    def reconstruction(self, z: Tensor, batch: Batch) -> Tensor:
        """−log p(x|z): z [S N P] (or [S N K P]) → [S N], nats, end token included."""
        samples, count = z.shape[:2]
        losses = self.decoder.reconstruction(
            self._conditioning(z.flatten(0, 1)),
            batch["decoder_input_ids"].repeat(samples, 1),
            batch["targets"].repeat(samples, 1),
        )
        return losses.view(samples, count)

    def draw(self, z: Tensor, generation: Generation) -> list[str]:
        """Texts for latents [N P]."""
        ids = self.decoder.generate(self._conditioning(z), len(z), generation)
        return self.codec.text(ids)


def _decoder(
    config: PreTrainedConfig, stock: PreTrainedModel | None, special: SpecialTokens
) -> Decoder:
    kind = Seq2SeqDecoder if config.is_encoder_decoder else CausalDecoder
    return kind.from_config(config, special) if stock is None else kind(stock, special)
