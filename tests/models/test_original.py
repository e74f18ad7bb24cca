"""Checkpoints of Optimus' own code as files: every layout is found, nothing in them is run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import optimus_checkpoint as optimus
from isthmus.errors import IsthmusError
from isthmus.models.original.files import find, read
from isthmus.models.original.state import Original


@pytest.fixture
def root(tmp_path):
    """A folder with the name of a released run."""
    folder = tmp_path / "philly_vae_snli"
    folder.mkdir()
    return folder


def original(source: Path) -> Original:
    """What the newest checkpoint of a place holds."""
    return read(find(str(source))[-1])


def is_of_seed(found: Original, seed: int) -> bool:
    """Whether all tensors are those of a seed, and no mask is among them."""
    wanted = {
        f"{part}.{name}": value
        for part, weights in optimus.parts(seed).items()
        for name, value in weights.items()
        if not name.endswith(".attn.bias")
    }
    same = found.weights.keys() == wanted.keys()
    return same and all(torch.equal(found.weights[name], wanted[name]) for name in wanted)


def refusal(source: Path) -> str:
    """The one line that a place is refused with."""
    with pytest.raises(IsthmusError) as caught:
        original(source)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 500
    return line


def moved(root, **names):
    """Rename the folders of step 700."""
    for part, name in names.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (root / f"checkpoint-{part}-700").rename(target)


NESTED = {part: f"{part}/checkpoint-{part}-31250" for part in ("encoder", "decoder", "full")}
TWICE = {part: f"checkpoint-{part}-9/checkpoint-{part}-9" for part in ("encoder", "decoder")}


@pytest.mark.parametrize(
    ("names", "source", "step"),
    [
        ({}, ".", "700"),
        ({}, "checkpoint-encoder-700", "700"),
        ({}, "checkpoint-decoder-700", "700"),
        ({}, "checkpoint-full-700", "700"),
        ({}, "checkpoint-full-700/training.bin", "700"),
        ({part: f"checkpoint-{part}-700-1.0" for part in NESTED}, ".", "700-1.0"),
        ({part: part for part in NESTED}, ".", ""),
        ({part: part for part in NESTED}, "full", ""),
        ({part: f"checkpoint-508523/{part}" for part in NESTED}, ".", "508523"),
        (NESTED, ".", "31250"),
        (NESTED, "full", "31250"),
        (TWICE, "checkpoint-encoder-9", "9"),
    ],
)
def test_layouts(root, names, source, step):
    optimus.write_parts(root)
    if names is not TWICE:
        optimus.write_full(root)
    moved(root, **names)
    assert is_of_seed(original(root / source), 0)
    assert find(str(root / source))[-1].step == step


def test_a_full_file_is_enough_and_its_folder_may_have_any_name(root):
    optimus.write_full(root, seed=3)
    shutil.move(root / "checkpoint-full-700" / "training.bin", root)
    assert original(root).configs == {"encoder": {}, "decoder": {}}
    for part, config in optimus.configs().items():
        (root / part).mkdir()
        (root / part / "config.json").write_text(json.dumps(config))
    found = original(root / "training.bin")
    assert is_of_seed(found, 3)
    assert found.configs == optimus.configs()
    assert found.name == "philly_vae_snli"


def test_steps_are_numbers_and_one_that_is_named_has_its_own_folders(root):
    for seed, step in enumerate(["600", "1000", "999"]):
        optimus.write_parts(root, step, seed)
    assert [each.step for each in find(str(root))] == ["600", "999", "1000"]
    [alone] = find(str(root / "checkpoint-decoder-600"))
    assert is_of_seed(read(alone), 0)


def test_the_full_file_counts(root):
    optimus.write_parts(root, seed=1)
    optimus.write_full(root, seed=2)
    assert is_of_seed(original(root), 2)


def test_prefixes_of_wrappers_and_masks_are_dropped(root):
    optimus.write_configs(root)
    state = {f"module.{name}": value for name, value in optimus.full()["model_state_dict"].items()}
    state["module.decoder.transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
    optimus.write_full(root, model_state_dict=state)
    assert is_of_seed(original(root), 0)


class Evil:
    """Its pickle makes a folder when it is read as pickles are."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


def save_zip(content, path):
    torch.save(content, path)


def save_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_plain(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_plain])
@pytest.mark.parametrize(
    "place",
    [
        "checkpoint-full-700/training.bin",
        "checkpoint-encoder-700/pytorch_model.bin",
        "checkpoint-decoder-700/pytorch_model.bin",
        "checkpoint-encoder-700/training_encoder_args.bin",
    ],
)
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(root, tmp_path, place, save):
    optimus.write_parts(root)
    target = tmp_path / "made"
    path = root / place
    path.parent.mkdir(exist_ok=True)
    save({"iter": 700, "linear.weight": Evil(target)}, path)
    line = refusal(root)
    assert f"{os.mkdir.__module__}.mkdir" in line
    assert str(path) in line
    assert not target.exists()
    # The fault is planted rightly: read as pickles are, it does what it says.
    if save is save_plain:
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert target.is_dir()


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_both_formats_and_old_names_of_numpy_are_read(root, save):
    optimus.write_configs(root)
    path = optimus.write_full(root) / "training.bin"
    save(optimus.full(args=optimus.arguments(beta=np.float32(0.5))), path)
    if save is save_legacy:
        content = path.read_bytes()
        assert b"numpy._core.multiarray\n" in content
        old = content.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")
        path.write_bytes(old)
    found = original(root)
    assert is_of_seed(found, 0)
    assert found.arguments["dataset"] == "Snli"


def test_files_that_are_damaged(root):
    optimus.write_configs(root)
    path = optimus.write_full(root) / "training.bin"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:100], b"", b"not a pickle at all\n"):
        path.write_bytes(content)
        assert f"{path}: damaged, or not written by torch.save" in refusal(root)
    save_legacy(optimus.full(), path)
    path.write_bytes(path.read_bytes()[:-2000])
    assert f"{path}: damaged, or not written by torch.save" in refusal(root)
    save_zip([1, 2], path)
    assert "no model_state_dict" in refusal(root)
    save_zip({"model_state_dict": {"encoder.linear.weight": 3}}, path)
    assert "not a state dict" in refusal(root)
    optimus.write_parts(root)
    path.unlink()
    (root / "checkpoint-decoder-700" / "config.json").write_text("[1")
    assert "config.json: not a model's configuration" in refusal(root)


def test_places_that_hold_no_checkpoint(root):
    assert "no Optimus checkpoint in it; expected checkpoint-full-STEP" in refusal(root)
    assert "does not exist" in refusal(root / "none")
    optimus.write_configs(root)
    assert "no Optimus checkpoint in it" in refusal(root)
    optimus.write_parts(root)
    shutil.rmtree(root / "checkpoint-decoder-700")
    line = refusal(root)
    assert "the decoder is missing; expected checkpoint-decoder-700/pytorch_model.bin" in line
