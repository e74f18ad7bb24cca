"""Texts from a model: what its draw comes to, with a latent, labels, both or neither."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from isthmus.models.bridges import Conditioning
from isthmus.models.codec import TextCodec
from isthmus.models.decoder import Decoder, Stream
from isthmus.models.generation import Generation, Source, write
from isthmus.models.labels import LabelPart


def draw_texts(
    decoder: Decoder,
    codec: TextCodec,
    labels: LabelPart | None,
    condition: Callable[[Tensor | None], Conditioning],
    count: int,
    generation: Generation,
) -> list[str]:
    """N texts, their prompt in front.

    Arguments:
        decoder: p(x|z, y).
        codec: its tokenizer.
        labels: of a model with a label y.
        condition: what the decoder is conditioned on under a y [N size], or without one.
        count: N.
        generation: label, guidance, prompt, and how tokens are chosen.
    """

    def under(y: Tensor | None) -> Source:
        return Stream(decoder, condition(y).repeat(generation.beams))

    source = under(None) if labels is None else labels.source(under, count, generation)
    begin = torch.tensor(codec.begin(generation.detail), device=decoder.device)
    prompt = torch.tensor(codec.ids(generation.prompt), dtype=torch.long, device=decoder.device)
    rows = write(source, count, begin, prompt, generation, decoder.special)
    return codec.text(rows)
