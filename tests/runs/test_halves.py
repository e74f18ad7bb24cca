"""Half of a text VAE: as good as the whole for what it does, without the weights of the other."""

import pytest
import torch

from isthmus.explore.walks import sample
from isthmus.models.base import LatentModel
from isthmus.models.generation import Generation
from isthmus.models.labels import labelled
from isthmus.runs.bundle import load, save
from tiny import TEXT_SYSTEMS, TEXTS


def parts(model: LatentModel) -> set[str]:
    return {name.split(".")[0] for name in model.state_dict()}


@pytest.mark.parametrize("name", ["gpt2-memory+embedding", "t5", "lstm", "labels", "vamp"])
def test_a_half_gives_what_the_whole_gives(name, tmp_path):
    save(TEXT_SYSTEMS[name](), tmp_path, {})
    whole = load(tmp_path)
    encoder, decoder = load(tmp_path, only="encoder"), load(tmp_path, only="decoder")
    latents = whole.encode(TEXTS)
    assert torch.equal(encoder.encode(TEXTS).mean, latents.mean)
    assert torch.equal(encoder.encode(TEXTS).log_variance, latents.log_variance)
    settings = Generation(max_new_tokens=5)
    assert decoder.decode(latents.mean, settings) == whole.decode(latents.mean, settings)
    assert sample(decoder, 3, seed=1, generation=settings) == sample(
        whole, 3, seed=1, generation=settings
    )
    if name == "labels":
        assert torch.equal(labelled(encoder).classify(TEXTS), labelled(whole).classify(TEXTS))
    assert parts(encoder) == parts(whole) - {"decoder", "bridge"}
    without = {"encoder"} if name != "vamp" else set()  # this prior is made by the encoder
    assert parts(decoder) == parts(whole) - without
