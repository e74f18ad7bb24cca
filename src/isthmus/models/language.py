"""A language model without a latent: plain, or conditioned on a control code.

A plain one has the decoder, data and budget of a VAE. It implements the interface with P = 0, so
every number in a comparison comes from the same code: its KL is zero, and its importance-weighted
bound is its exact log-likelihood.

With labels it is CTRL (Keskar et al. 2019): p(x|c). A bridge gives the code c to the decoder as it
gives z in other models, by default in place of the start token. A code is not a token: no text can
spell one, and no output can contain one. log p(x) = log Σ_c p(c) p(x|c) and p(c|x) ∝ p(c) p(x|c)
are exact.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel
from transformers.configuration_utils import SubConfigSpec

from isthmus.errors import IsthmusError
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.base import Inference, TermsOutput
from isthmus.models.bridges import Bridge, build_bridge, initialise
from isthmus.models.codec import Batch, TextCodec
from isthmus.models.conditioning import Conditioning
from isthmus.models.config import build_prior
from isthmus.models.decoder import Decoder
from isthmus.models.inspection import token_embeddings
from isthmus.models.label_input import LabelInput
from isthmus.models.text_model import TextConfig, TextModel, build_decoder, build_label_input


@strict
class LanguageConfig(TextConfig):
    """The configuration of a language model.

    Args:
        rivals: R, other codes that training reads each text under, see
            :meth:`LanguageModel._confusion`; 0 trains p(x|c) alone.
        even_codes: training reads all codes equally often, whatever p(c) is.
    """

    model_type = "isthmus-language"
    sub_configs_defaults = {  # noqa: RUF012 - declared so by transformers
        "decoder": SubConfigSpec(config_class=AutoConfig, model_type="gpt2"),
    }

    latent_size: int = 0
    rivals: int = 0
    even_codes: bool = False


@final
class LanguageModel(TextModel):
    """p(x), or p(x|c), by a causal language model or the decoder half of an encoder–decoder one.

    Args:
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
        self.decoder = build_decoder(config, decoder)
        self.labels = build_label_input(config)
        self.bridge = _bridge(config, self.decoder, self.labels)
        self.begin_codes()
        self.prior_module = build_prior(config)
        if codec is not None:
            self.codec = codec
        self.finish_init()
        self.tune()
        self.freeze()

    def begin_codes(self) -> None:
        """Start fresh codes that replace the start token as that token.

        Word vectors come later than the model; until then they are zeros, which add nothing.
        """
        start = token_embeddings(self.decoder.stack)[self.config.decoder_start]
        if self.bridge is not None:
            self.bridge.begin_as(start)

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Do nothing: the decoder initialises itself."""

    def posterior(self, batch: Batch) -> DiagonalGaussian:
        """The distribution over nothing, [N 0]."""
        empty = torch.zeros(len(batch["targets"]), 0, device=self.device)
        return DiagonalGaussian(empty, empty)

    def pseudo_posterior(self, pseudo_inputs: Tensor) -> DiagonalGaussian:
        """Not defined without a latent."""
        raise IsthmusError("a plain language model has no latent, so no VampPrior either")

    def forward(self, inference: Inference | None = None, **batch: Any) -> TermsOutput:
        """As for every model; for a batch with ``labels`` [N], −log p(x|c).

        Texts without a label (−1) and ``dropped`` [N] rows read the null code. With rivals there
        is a ``classification``, see :meth:`_confusion`.
        """
        if self.labels is None or "labels" not in batch:
            return super().forward(inference, **batch)
        labels = batch["labels"]
        if (dropped := batch.get("dropped")) is not None:
            labels = labels.masked_fill(dropped, -1)
        nothing = self.posterior(batch).mean
        losses = self.token_losses(nothing, self.labels.rows(labels), batch).sum(-1)
        extra = {}
        if self.config.rivals:
            extra["classification"] = self._confusion(losses, labels, batch)
        return TermsOutput(
            reconstruction=losses,
            kl=nothing,
            posterior=(nothing, nothing),
            z=nothing,
            extra=extra,
        )

    def _confusion(self, losses: Tensor, labels: Tensor, batch: Batch) -> Tensor:
        """−log p(c|x) among the code c of each text and R others, [N], nats.

        0 for a text without a code, and for one with a detail, which no other code is ever read
        with. Balanced sampling makes all codes alike, whatever p(c) is.

        The discriminative loss of GeDi (Krause et al. 2020, section 3.1). With all other codes it
        is exact; fewer, drawn anew in every epoch, cost less and have the same optimum (ranking
        noise-contrastive estimation, Ma & Collins 2018, arXiv 1809.01812).

        Args:
            losses: −log p(x|c), [N], nats.
            labels: the codes, [N], −1 for a text read without one.
            batch: the texts; ``label_noise`` [N C] chooses the rivals.
        """
        [coded] = torch.where((labels >= 0) & (batch["targets"][:, 0] >= 0))
        if not len(coded):
            return torch.zeros_like(losses)
        own = labels[coded]
        draws = batch["label_noise"][coded].scatter(1, own.unsqueeze(1), -torch.inf)
        rivals = draws.topk(min(self.config.rivals, draws.shape[1] - 1)).indices  # [M R]
        part = {name: value[coded] for name, value in batch.items()}
        nothing = losses.new_zeros(len(coded), 0)
        log_prior = self.label_input.log_prior
        if self.config.even_codes:
            log_prior = torch.zeros_like(log_prior)
        scores = [log_prior[own] - losses[coded]]
        for rival in rivals.T:
            under = self.token_losses(nothing, self.label_input.rows(rival), part).sum(-1)
            scores.append(log_prior[rival] - under)
        confusion = torch.stack(scores).logsumexp(0) - scores[0]
        return torch.zeros_like(losses).index_copy(0, coded, confusion)

    def conditioning(self, z: Tensor, y: Tensor | None = None) -> Conditioning:
        """What the bridge gives the decoder for y [N size]; nothing without y."""
        if y is None or self.bridge is None:
            return Conditioning()
        return self.bridge(y.to(self.dtype).unsqueeze(1))

    def reconstruction(self, z: Tensor, batch: Batch) -> Tensor:
        """−log p(x), the same in each of the S rows, [S N]; codes are summed out."""
        return super().reconstruction(z[:1], batch).expand(len(z), -1)

    def label_token_losses(
        self, z: Tensor, batch: Batch, places: Sequence[int] | None = None
    ) -> Tensor:
        """−log p(x_t|x_<t, c), the same in each of the S rows, [C S N T]."""
        losses = super().label_token_losses(z[:1], batch, places)
        return losses.expand(-1, len(z), -1, -1)

    def label_posterior(self, batch: Batch) -> Tensor:
        """log p(c|x) by Bayes' rule, exact, [N C]."""
        nothing = self.posterior(batch).mean.unsqueeze(0)
        losses = self.label_token_losses(nothing, batch)[:, 0].sum(-1)  # [C N]
        return (self.label_input.log_prior.unsqueeze(-1) - losses).log_softmax(0).T

    def add_codes(self, labels: Sequence[str | None]) -> None:
        """Add the new codes among labels to train on; p(x|c) of the old codes does not change.

        A new code begins as the null code, at the model's p(x).

        Raises:
            IsthmusError: codes join every token of the decoder, which has no room for more.
        """
        known, bridge = self.label_input, self.bridge
        assert bridge is not None
        new = sorted({label for label in labels if label} - set(known.names))
        if new and not bridge.can_widen:
            raise IsthmusError(
                f"codes: {', '.join(new)} cannot be added, the bridge {self.config.bridge} is as "
                "wide as it was built; train from the start, or with --model.bridge start"
            )
        known.add(new, labels)
        self.config.labels = list(known.names)
        self.codec = replace(self.codec, label_names=known.names)
        bridge.widen(len(new))


def _bridge(config: LanguageConfig, decoder: Decoder, labels: LabelInput | None) -> Bridge | None:
    """How a code enters."""
    if labels is None:
        return None
    bridge = build_bridge(config.bridge, 1, labels.size, decoder.shape(), config.bridge_length)
    initialise(bridge)
    return bridge
