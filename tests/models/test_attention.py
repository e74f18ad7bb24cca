"""``--model.decoder.attention``: what transformers computes with, or one line."""

import dataclasses

import pytest
import torch

from isthmus.errors import IsthmusError
from isthmus.models.build import build
from isthmus.models.quick import SHORT
from isthmus.models.text_model import TextModel
from tiny import TEXTS, settings


def built(encoder: str, decoder: str) -> TextModel:
    recipe = settings("llama", "memory")
    model = dataclasses.replace(
        recipe.model,
        encoder=dataclasses.replace(recipe.model.encoder, attention=encoder),
        decoder=dataclasses.replace(recipe.model.decoder, attention=decoder),
    )
    return build(dataclasses.replace(recipe, model=model), TEXTS).eval()


def test_both_parts_use_what_is_asked_for_and_the_terms_stay():
    usual, other = built("", ""), built("eager", "eager")
    for model, expected in ((usual, SHORT), (other, "eager")):
        used = [part.config._attn_implementation for part, _ in model.stock_models()]
        assert used == [expected, expected]
    ours, theirs = (model.terms(TEXTS).negative_elbo for model in (usual, other))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wanted", ["flash_attention_2", "no-such-attention"])
def test_what_a_machine_lacks_is_refused_in_one_line(wanted):
    with pytest.raises(
        IsthmusError, match=rf"{wanted}.*leave out --model\.decoder\.attention"
    ) as e:
        built("", wanted)
    assert "\n" not in str(e.value)
