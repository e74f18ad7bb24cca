"""A plain language model: the same decoder, data and budget as a VAE, without a latent.

It obeys the interface with P = 0, so that every number in a comparison comes from the same code:
its KL is zero, its importance-weighted bound is its exact log-likelihood.
"""

from typing import final

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.configuration_utils import SubConfigSpec

from isthmus.bridge import Conditioning
from isthmus.errors import IsthmusError
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.base import LatentConfig, LatentModel, build_prior
from isthmus.models.codec import Batch, TextCodec
from isthmus.models.decoder import CausalDecoder, Generation, SpecialTokens
from isthmus.models.output import Output
from isthmus.models.tuning import Tuning, apply_tuning, freeze


@strict
class LanguageConfig(LatentConfig):
    """The decoder's configuration and the ids around its texts."""

    model_type = "isthmus-language"
    sub_configs_defaults = {  # noqa: RUF012 - declared so by transformers
        "decoder": SubConfigSpec(config_class=AutoConfig, model_type="gpt2"),
    }

    latent_size: int = 0
    decoder: PreTrainedConfig | dict | None = None
    decoder_tuning: Tuning = "full"
    lora_rank: int = 8
    decoder_start: int = 1
    decoder_end: int = 2
    decoder_pad: int = 0
    decoder_output: Output = "softmax"


@final
class LanguageModel(LatentModel):
    """p(x) by a causal language model.

    Arguments:
        config: the decoder.
        decoder: a stock model to take as it is; a fresh one if absent.
        codec: the tokenizer.
    """

    config_class = LanguageConfig
    config: LanguageConfig
    codec: TextCodec

    def __init__(
        self,
        config: LanguageConfig,
        decoder: PreTrainedModel | None = None,
        codec: TextCodec | None = None,
    ) -> None:
        super().__init__(config)
        special = SpecialTokens(config.decoder_start, config.decoder_end, config.decoder_pad)
        if decoder is None:
            self.decoder = CausalDecoder.from_config(
                config.decoder, special, config.decoder_output
            )
        else:
            self.decoder = CausalDecoder(decoder, special)
        self.prior_module = build_prior(config)
        if codec is not None:
            self.codec = codec
        self.finish_init()
        apply_tuning(self.decoder.model, config.decoder_tuning, config.lora_rank)
        self.freeze()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """The decoder has initialised itself."""

    def freeze(self) -> None:
        """Train what the decoder's tuning trains; there is nothing else."""
        freeze(self.decoder.model, self.config.decoder_tuning)
        self.decoder.fix_unread(Conditioning())

    def posterior(self, batch: Batch) -> DiagonalGaussian:
        """The distribution over nothing, [N 0]."""
        empty = torch.zeros(len(batch["targets"]), 0, device=self.device)
        return DiagonalGaussian(empty, empty)

    def pseudo_posterior(self, pseudo_inputs: Tensor) -> DiagonalGaussian:
        """There is none."""
        raise IsthmusError("a plain language model has no latent, so no VampPrior either")

    def reconstruction(self, z: Tensor, batch: Batch) -> Tensor:
        """−log p(x), the same in each of the S rows, [S N]."""
        losses = self.decoder.reconstruction(
            Conditioning(), batch["decoder_input_ids"], batch["targets"]
        )
        return losses.expand(len(z), -1)

    def draw(self, z: Tensor, generation: Generation) -> list[str]:
        """As many texts as there are rows in z [N 0]."""
        return self.codec.text(self.decoder.generate(Conditioning(), len(z), generation))
