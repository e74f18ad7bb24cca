"""A language model without a latent: plain, or conditioned on a control code.

Plain it is the same decoder, data and budget as a VAE. It obeys the interface with P = 0, so that
every number in a comparison comes from the same code: its KL is zero, its importance-weighted
bound is its exact log-likelihood.

With labels it is CTRL (Keskar et al. 2019): p(x|c), the code c given to the decoder through a
bridge as z is elsewhere, by default in the place of the start token. A code is no token: no text
can spell one, and no text can come out with one. log p(x) = log Σ_c p(c) p(x|c) and
p(c|x) ∝ p(c) p(x|c) are exact.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.configuration_utils import SubConfigSpec

from isthmus.errors import IsthmusError
from isthmus.latent.posterior import DiagonalGaussian
from isthmus.models.base import Inference, LatentConfig, LatentModel, TermsOutput, build_prior
from isthmus.models.bridges import Conditioning, StartBridge, build_bridge, initialise
from isthmus.models.codec import Batch, TextCodec
from isthmus.models.decoder import Decoder
from isthmus.models.drawing import draw_texts
from isthmus.models.generation import Generation, SpecialTokens
from isthmus.models.labels import LabelPart
from isthmus.models.output import Output
from isthmus.models.seq2seq import build_decoder
from isthmus.models.tuning import Tuning, apply_tuning, freeze


@strict
class LanguageConfig(LatentConfig):
    """The decoder's configuration, the ids around its texts, and how a code enters it.

    Arguments:
        bridge, bridge_length: how a code enters, see :mod:`isthmus.models.bridges`.
        rivals: R, other codes that training reads each text under, see
            :meth:`LanguageModel._confusion`; 0 trains p(x|c) alone.
        even_codes: training reads all codes equally often, whatever p(c) is.
    """

    model_type = "isthmus-language"
    sub_configs_defaults = {  # noqa: RUF012 - declared so by transformers
        "decoder": SubConfigSpec(config_class=AutoConfig, model_type="gpt2"),
    }

    latent_size: int = 0
    decoder: PreTrainedConfig | dict | None = None
    decoder_tuning: Tuning = "full"
    lora_rank: int = 8
    decoder_start: int = 1
    decoder_end: int | None = 2
    decoder_pad: int = 0
    decoder_output: Output = "softmax"
    bridge: str = "start"
    bridge_length: int = 1
    rivals: int = 0
    even_codes: bool = False


@final
class LanguageModel(LatentModel):
    """p(x), or p(x|c), by a causal language model or the decoder half of an encoder–decoder one.

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
        self.decoder = build_decoder(config.decoder, decoder, special, config.decoder_output)
        self.labels = _labels(config)
        self.bridge = _bridge(config, self.decoder, self.labels)
        self.begin_codes()
        self.prior_module = build_prior(config)
        if codec is not None:
            self.codec = codec
        self.finish_init()
        apply_tuning(self.decoder.model, config.decoder_tuning, config.lora_rank)
        self.freeze()

    def begin_codes(self) -> None:
        """In the place of the start token a fresh code begins as that token.

        Word vectors come later than the model; until then they are zeros, which add nothing.
        """
        start = self.decoder.stack.get_input_embeddings().weight[self.config.decoder_start]
        for part in () if self.bridge is None else self.bridge.modules():
            if isinstance(part, StartBridge):
                part.begin_as(start)

    def _init_weights(self, module: torch.nn.Module) -> None:
        """The decoder has initialised itself."""

    def freeze(self) -> None:
        """Train what the decoder's tuning trains, and the codes in any case."""
        freeze(self.decoder.model, self.config.decoder_tuning)
        y = None if self.labels is None else self.labels.one_hot(0, 1)
        self.decoder.fix_unread(self._conditioning(y))

    def posterior(self, batch: Batch) -> DiagonalGaussian:
        """The distribution over nothing, [N 0]."""
        empty = torch.zeros(len(batch["targets"]), 0, device=self.device)
        return DiagonalGaussian(empty, empty)

    def pseudo_posterior(self, pseudo_inputs: Tensor) -> DiagonalGaussian:
        """There is none."""
        raise IsthmusError("a plain language model has no latent, so no VampPrior either")

    def forward(self, inference: Inference | None = None, **batch: Any) -> TermsOutput:
        """As for every model; of a batch with ``labels`` [N] −log p(x|c).

        The null code is read where no label is given (−1), and in ``dropped`` [N] rows. With
        rivals there is a ``classification``, see :meth:`_confusion`.
        """
        if self.labels is None or "labels" not in batch:
            return super().forward(inference, **batch)
        labels = batch["labels"]
        if (dropped := batch.get("dropped")) is not None:
            labels = labels.masked_fill(dropped, -1)
        nothing = self.posterior(batch).mean
        losses = self._token_losses(self.labels.rows(labels), batch).sum(-1)
        extra = {}
        if self.config.rivals:
            extra["classification"] = self._confusion(losses, labels, batch)
        return TermsOutput(
            reconstruction=losses,
            kl=nothing,
            mean=nothing,
            log_variance=nothing,
            z=nothing,
            extra=extra,
        )

    def _confusion(self, losses: Tensor, labels: Tensor, batch: Batch) -> Tensor:
        """−log p(c|x) among the code c of each text and R others, [N], nats.

        0 for a text without a code, and for one with a detail, which no other code has ever been
        read with. Under balanced sampling all codes are alike, whatever p(c) is.

        The discriminative loss of GeDi (Krause et al. 2020, section 3.1). All other codes make it
        exact; fewer, drawn anew in every epoch, cost less and have the same optimum (ranking
        noise-contrastive estimation, Ma & Collins 2018, arXiv 1809.01812).

        Arguments:
            losses: −log p(x|c), [N], nats.
            labels: the codes, [N], −1 where none was read.
            batch: the texts; ``label_noise`` [N C] chooses the rivals.
        """
        [told] = torch.where((labels >= 0) & (batch["targets"][:, 0] >= 0))
        if not len(told):
            return torch.zeros_like(losses)
        own = labels[told]
        draws = batch["label_noise"][told].scatter(1, own.unsqueeze(1), -torch.inf)
        rivals = draws.topk(min(self.config.rivals, draws.shape[1] - 1)).indices  # [M R]
        part = {name: value[told] for name, value in batch.items()}
        log_prior = self.labels.log_prior
        if self.config.even_codes:
            log_prior = torch.zeros_like(log_prior)
        scores = [log_prior[own] - losses[told]]
        for rival in rivals.T:
            under = self._token_losses(self.labels.rows(rival), part).sum(-1)
            scores.append(log_prior[rival] - under)
        confusion = torch.stack(scores).logsumexp(0) - scores[0]
        return torch.zeros_like(losses).index_copy(0, told, confusion)

    def _conditioning(self, y: Tensor | None) -> Conditioning:
        """The bridge's answer for y [N size]; nothing without labels."""
        if y is None or self.bridge is None:
            return Conditioning()
        return self.bridge(y.to(self.dtype).unsqueeze(1))

    def _token_losses(self, y: Tensor | None, batch: Batch) -> Tensor:
        return self.decoder.token_losses(
            self._conditioning(y), batch["decoder_input_ids"], batch["targets"]
        )

    def reconstruction(self, z: Tensor, batch: Batch) -> Tensor:
        """−log p(x), the same in each of the S rows, [S N]; codes are summed out."""
        if self.labels is None:
            losses = self._token_losses(None, batch).sum(-1)
        else:
            losses = self.labels.summed_out(self._label_losses(batch))
        return losses.expand(len(z), -1)

    def _label_losses(self, batch: Batch) -> Tensor:
        """−log p(x|c), [C N]."""
        nothing = self.posterior(batch).mean.unsqueeze(0)
        return self.label_token_losses(nothing, batch)[:, 0].sum(-1)

    def label_token_losses(
        self, z: Tensor, batch: Batch, places: Sequence[int] | None = None
    ) -> Tensor:
        """−log p(x_t|x_<t, c), the same in each of the S rows, [C S N T]."""
        if self.labels is None:
            return super().label_token_losses(z, batch)
        every = self.labels.each(places, len(batch["targets"]))
        losses = torch.stack([self._token_losses(y, batch) for y in every])
        return losses.unsqueeze(1).expand(-1, len(z), -1, -1)

    def label_log_prior(self) -> Tensor:
        """Log p(y), [C]."""
        return super().label_log_prior() if self.labels is None else self.labels.log_prior

    def label_posterior(self, batch: Batch) -> Tensor:
        """Log p(c|x) by Bayes' rule, exact, [N C]."""
        if self.labels is None:
            return super().label_posterior(batch)
        joint = self.labels.log_prior.unsqueeze(-1) - self._label_losses(batch)
        return joint.log_softmax(0).T

    def sample_labels(self, count: int, generator: torch.Generator) -> list[str]:
        """Codes from p(c)."""
        return [] if self.labels is None else self.labels.sample(count, generator)

    def add_codes(self, labels: Sequence[str | None]) -> None:
        """Take in labels to be trained on; what the model says under its old codes stays the same.

        A new code begins as the null code, at p(x) as the model has it.

        Raises:
            IsthmusError: codes join every token of the decoder, which has no room for more.
        """
        assert self.labels is not None
        new = sorted({label for label in labels if label} - set(self.labels.names))
        if new and "input" in self.config.bridge.split("+"):
            raise IsthmusError(
                f"codes: {', '.join(new)} cannot be added, the input bridge is as wide as it was "
                "built; train from the start, or with --model.bridge start"
            )
        self.labels.add(new, labels)
        self.config.labels = list(self.labels.names)
        self.codec = replace(self.codec, label_names=self.labels.names)
        for map_ in self.bridge.modules():
            if isinstance(map_, nn.Linear):
                begin = map_.weight[:, :1].detach().expand(-1, len(new))
                map_.weight = nn.Parameter(torch.cat([map_.weight.detach(), begin], dim=1))
                map_.in_features = map_.weight.shape[1]

    def draw(self, z: Tensor, generation: Generation) -> list[str]:
        """As many texts as there are rows in z [N 0]."""
        return draw_texts(
            self.decoder, self.codec, self.labels, self._conditioning, len(z), generation
        )


def _labels(config: LanguageConfig) -> LabelPart | None:
    return LabelPart(config.label_names, config.null_code) if config.label_names else None


def _bridge(
    config: LanguageConfig, decoder: Decoder, labels: LabelPart | None
) -> nn.Module | None:
    """How a code enters."""
    if labels is None:
        return None
    bridge = build_bridge(config.bridge, 1, labels.size, decoder.shape(), config.bridge_length)
    initialise(bridge)
    return bridge
