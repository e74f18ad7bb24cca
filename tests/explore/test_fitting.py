"""Details that stay where a moved summary still predicts their tokens."""

import torch

from isthmus.explore.fitting import refitted
from tiny import TEXTS, make

NAMES = {"pooling": "blocks", "encoder": "modernbert", "latents": 8, "summary": 2}


def test_a_summary_that_stays_hides_nothing():
    model = make("llama", "aligned", **NAMES)
    z = model.encode(TEXTS).mean
    assert all(torch.equal(found, z) for found in refitted(model, TEXTS, z, z, [0.5, 1.0]))


@torch.no_grad()
def test_a_move_hides_the_words_that_it_makes_unlikely_and_no_others():
    model = make("llama", "aligned", **NAMES)
    z = model.encode(TEXTS).mean
    moved = z.clone()
    moved[:, :2] = 2 * z.roll(1, 0)[:, :2]
    found, all_stay = refitted(model, TEXTS, z, moved, [1.0, torch.inf])
    assert torch.equal(all_stay[:, 2:], z[:, 2:])
    assert torch.equal(found[:, :2], moved[:, :2])
    lost = model.log_words(z) - model.log_words(moved)
    tokenizer = model.codec.decoder_tokenizer
    hid, kept = 0, 0
    for row, text in enumerate(TEXTS):
        ids = [*tokenizer(text.split(), is_split_into_words=True).input_ids]
        ids = [i for i in ids if i not in tokenizer.all_special_ids] + [model.config.decoder_end]
        for place in range(0, len(ids), 2):  # two tokens each
            unlikely = any(lost[row, token] > 1.0 for token in ids[place : place + 2])
            detail = 2 + place // 2
            expected = torch.zeros(4) if unlikely else z[row, detail]
            assert torch.equal(found[row, detail], expected)
            hid, kept = hid + unlikely, kept + (not unlikely)
    assert hid
    assert kept


def test_models_of_one_level_move_as_they_are():
    model = make("llama", "aligned", pooling="blocks", latents=5)
    z = model.encode(TEXTS).mean
    assert torch.equal(*refitted(model, TEXTS, z, z + 1, [1.0]), z + 1)
