"""A run directory: bit-equal after loading, whole or clearly not, one line for every damage."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoTokenizer

import isthmus
from isthmus.data.captioned import Example
from isthmus.data.corpus import TEXT
from isthmus.data.tokens import train_bpe
from isthmus.errors import IsthmusError
from isthmus.models.codec import make_codec
from isthmus.models.optimus import OptimusModel
from isthmus.runs import bundle
from isthmus.runs.digests import seal
from tiny import SYSTEMS, TEXTS, examples_of, loud, make, system

RECORD = {
    "settings": {"model": {"latent_size": 3}, "train": {"steps": 7}},
    "data": {"source": "x.txt", "sentences": 6, "fingerprint": "f" * 64},
    "seed": 5,
    "metrics": {"sentences": 6, "iw_samples": 10, "elbo": -4.25, "elbo_se": 0.5, "kl": 1.0},
}


def two_tokenizers() -> OptimusModel:
    """An encoder with bytes, a decoder with words."""
    single = make()
    config = copy.deepcopy(single.config)
    config.encoder.vocab_size = 300
    config.encoder.max_position_embeddings = 64
    codec = make_codec(train_bpe(TEXTS, 300), single.codec.decoder_tokenizer, 12)
    return loud(OptimusModel(config, codec=codec)).eval()


def lora() -> OptimusModel:
    config = copy.deepcopy(make().config)
    config.encoder_tuning = config.decoder_tuning = "lora"
    config.lora_rank = 2
    return loud(OptimusModel(config, codec=make().codec)).eval()


OTHERS: dict[str, Callable] = {"two tokenizers": two_tokenizers, "lora": lora}


@pytest.fixture
def saved(tmp_path) -> Path:
    bundle.save(system("gpt2-memory+embedding"), tmp_path / "run", RECORD)
    return tmp_path / "run"


def refusal(call: Callable[[], object]) -> str:
    """The one line that it is refused with."""
    with pytest.raises(IsthmusError) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 500
    return line


def rewrite(folder: Path, name: str, change: Callable[[dict], None]) -> None:
    """Change a JSON file as a writer of run directories would: with its size and digest."""
    path = folder / name
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    accept(folder, name)


def accept(folder: Path, name: str) -> None:
    run = json.loads((folder / bundle.RUN_FILE).read_text())
    if name != bundle.RUN_FILE:
        run["files"][name] = (folder / name).stat().st_size
    seal(run, folder, run["files"], bundle.RUN_FILE)
    (folder / bundle.RUN_FILE).write_text(json.dumps(run))


def outputs(model) -> list[torch.Tensor]:
    terms, posterior = (call(examples_of(model)) for call in (model.terms, model.encode))
    return [terms.reconstruction, terms.kl, posterior.mean, posterior.log_variance]


def same_model(one, other) -> bool:
    pairs = zip(outputs(one), outputs(other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", [*SYSTEMS, *OTHERS])
def test_what_is_loaded_is_bit_equal_to_what_was_saved(name, tmp_path):
    model = OTHERS[name]() if name in OTHERS else system(name)
    bundle.save(model, tmp_path, RECORD)
    loaded = isthmus.load(tmp_path)
    assert not loaded.training
    assert type(loaded) is type(model)
    before, after = model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert same_model(loaded, model)
    mean = model.encode(examples_of(model)).mean
    for one, other in zip(loaded.decode(mean), model.decode(mean), strict=True):
        assert Example.of(one).caption == Example.of(other).caption
        assert np.array_equal(Example.of(one).picture, Example.of(other).picture)
    draws = [m.prior.sample(3, torch.Generator().manual_seed(1)) for m in (model, loaded)]
    assert torch.equal(*draws)
    trained = [[n for n, p in m.named_parameters() if p.requires_grad] for m in (model, loaded)]
    assert trained[0] == trained[1]
    codecs = [text.codec for m in (model, loaded) if (text := m.member(TEXT))]
    same = [codec.encoder_tokenizer is codec.decoder_tokenizer for codec in codecs]
    assert len(set(same)) == (model.member(TEXT) is not None)


def test_transformers_reads_the_folder(saved):
    model = system("gpt2-memory+embedding")
    assert AutoConfig.from_pretrained(saved).to_dict()["latent_size"] == 3
    read = AutoModel.from_pretrained(saved)
    assert isinstance(read, OptimusModel)
    assert torch.equal(read.state_dict()["bridge.parts.memory.linear.weight"],
                       model.state_dict()["bridge.parts.memory.linear.weight"])  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(saved)
    assert tokenizer("a b c").input_ids == model.codec.decoder_tokenizer("a b c").input_ids


def test_no_file_is_a_pickle(saved):
    for path in saved.rglob("*"):
        assert path.suffix in (".json", ".safetensors", ".md")
        assert path.read_bytes()[:2] not in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05")


def test_run_file_tells_what_the_run_was(saved):
    run = bundle.read_run(saved)
    assert RECORD.items() <= run.items()
    assert run["bundle_version"] == bundle.BUNDLE_VERSION
    assert run["maximum_length"] == 12
    assert run["versions"]["isthmus"] == isthmus.__version__
    assert {"torch", "transformers", "tokenizers", "numpy", "python"} <= run["versions"].keys()
    there = {p.name: p.stat().st_size for p in saved.iterdir() if p.name != bundle.RUN_FILE}
    assert run["files"] == there
    card = (saved / "README.md").read_text()
    assert "-4.250 ± 0.500 | nats per sentence" in card
    assert "`x.txt`: 6 sentences" in card
    assert "train: steps = 7" in card


def test_the_card_may_be_edited(saved):
    (saved / "README.md").write_text("mine")
    isthmus.load(saved)
    (saved / "README.md").unlink()
    isthmus.load(saved)


def test_folders_that_are_no_runs(tmp_path):
    assert "no such run directory" in refusal(lambda: isthmus.load(tmp_path / "absent"))
    assert "not a run directory" in refusal(lambda: isthmus.load(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    assert "--resume" in refusal(lambda: isthmus.load(tmp_path))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_truncated_and_missing_files(saved, name):
    path = saved / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    line = refusal(lambda: isthmus.load(saved))
    assert name in line
    assert f"expected {len(content):,} bytes, got {len(content) // 2:,}" in line
    path.unlink()
    assert f"{name} is missing" in refusal(lambda: isthmus.load(saved))


def test_truncated_file_of_the_encoder_tokenizer(tmp_path):
    bundle.save(two_tokenizers(), tmp_path, RECORD)
    (tmp_path / bundle.ENCODER_TOKENIZER / "tokenizer.json").write_text("{")
    assert "truncated" in refusal(lambda: isthmus.load(tmp_path))
    shutil.rmtree(tmp_path / bundle.ENCODER_TOKENIZER)
    assert "is missing" in refusal(lambda: isthmus.load(tmp_path))


def test_truncated_run_file(saved):
    path = saved / bundle.RUN_FILE
    content = path.read_text()
    for length in (0, 1, len(content) // 2, len(content) - 1):
        path.write_text(content[:length])
        assert "run.json: damaged" in refusal(lambda: isthmus.load(saved))
    for other in ("[]", "3", "null", '{"files": {}}', '{"files": 3, "bundle_version": 1}'):
        path.write_text(other)
        assert "run.json: damaged" in refusal(lambda: isthmus.load(saved))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_damaged_content_of_the_right_size(saved, name):
    content = bytearray((saved / name).read_bytes())
    content[:40] = b"\xff" * 40
    (saved / name).write_bytes(bytes(content))
    assert name in refusal(lambda: isthmus.load(saved))


def test_newer_bundle(saved):
    rewrite(saved, bundle.RUN_FILE, lambda run: run.update(bundle_version=99))
    line = refusal(lambda: isthmus.load(saved))
    assert "bundle version 99" in line
    assert "pip install --upgrade isthmus" in line


def test_unknown_key_in_the_configuration(saved):
    rewrite(saved, "config.json", lambda config: config.update(latent_szie=3))
    line = refusal(lambda: isthmus.load(saved))
    assert "unknown setting 'latent_szie'; did you mean latent_size?" in line


@pytest.mark.parametrize(
    ("key", "value"),
    [("latent_size", "many"), ("model_type", "bert"), ("bridge", "rope"), ("pooling", "sum"),
     ("encoder_tuning", "half"), ("prior", "laplace")],
)  # fmt: skip
def test_wrong_value_in_the_configuration(saved, key, value):
    rewrite(saved, "config.json", lambda config: config.update({key: value}))
    line = refusal(lambda: isthmus.load(saved))
    assert key in line or value in line


def test_tensors_that_do_not_fit_the_configuration(saved):
    weights = load_file(saved / "model.safetensors")

    def with_weights(changed: dict[str, torch.Tensor]) -> str:
        save_file(changed, saved / "model.safetensors", {"format": "pt"})
        accept(saved, "model.safetensors")
        return refusal(lambda: isthmus.load(saved))

    fewer = {name: value for name, value in weights.items() if name != "encoder.head.weight"}
    assert "asks for tensors that it lacks, 1 in all (encoder.head.weight)" in with_weights(fewer)
    more = weights | {"extra.weight": torch.ones(2)}
    assert "does not ask for, 1 in all (extra.weight)" in with_weights(more)
    larger = weights | {"encoder.head.weight": torch.ones(8, 16)}
    assert "have another size than config.json says, 1 in all" in with_weights(larger)


def test_other_latent_size_than_the_weights(saved):
    rewrite(saved, "config.json", lambda config: config.update(latent_size=4))
    assert "another size than config.json says, 3 in all" in refusal(lambda: isthmus.load(saved))


class Killed(BaseException):
    """kill -9: nothing is cleaned up after it."""


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch, save: Callable[[], None]) -> bool:
    """Let a save run until its n-th change of the folder; false where it ends before."""
    left = [step]

    def counted(original):
        def act(*arguments, **options):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return original(*arguments, **options)

        return act

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", counted(Path.replace))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        patch.setattr(Path, "write_text", counted(Path.write_text))
        patch.setattr(OptimusModel, "save_pretrained", counted(OptimusModel.save_pretrained))
        patch.setattr(os, "fsync", counted(os.fsync))
        patch.setattr(bundle.shutil, "rmtree", lambda *_, **__: None)
        try:
            save()
        except Killed:
            return True
    return False


def test_a_save_that_is_killed_leaves_the_old_run_or_a_clearly_unfinished_one(
    tmp_path, monkeypatch
):
    old, new = two_tokenizers(), system("gpt2-embedding")
    plain = tmp_path / "plain"
    bundle.save(new, plain, {})
    expected = {p.name for p in plain.iterdir()}
    seen = set()
    for step in range(100):
        folder = tmp_path / str(step)
        bundle.save(old, folder, {})
        (folder / "log.jsonl").write_text("kept")
        killed = killed_at(step, monkeypatch, lambda: bundle.save(new, folder, {}))  # noqa: B023
        try:
            found = isthmus.load(folder)
            which = "old" if same_model(found, old) else "new"
            assert same_model(found, old if which == "old" else new)
        except IsthmusError as error:
            assert "the run was not finished" in str(error)  # noqa: PT017
            which = "unfinished"
        seen.add(which)
        bundle.save(new, folder, {})
        assert same_model(isthmus.load(folder), new)
        left = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        assert left == expected | {"log.jsonl"}
        if not killed:
            break
    assert seen == {"old", "unfinished", "new"}
    assert step > 10


def test_a_save_that_fails_before_the_move_leaves_nothing_behind(saved, monkeypatch):
    before = {p.name: p.read_bytes() for p in saved.iterdir()}

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle, "model_card", fail)
    line = refusal(lambda: bundle.save(system("gpt2-prefix"), saved, {}))
    assert "the disk is full; what was saved there before is untouched" in line
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before


def test_a_save_that_fails_in_the_move_keeps_the_new_files(saved, monkeypatch):
    original, calls = Path.replace, []

    def fail(self, target):
        calls.append(target)
        if len(calls) == 3:
            raise OSError(5, "Input/output error")
        return original(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="Input/output"):
        bundle.save(system("gpt2-prefix"), saved, {})
    names = {p.name for p in saved.rglob("*")}
    assert {"model.safetensors", "config.json", "tokenizer.json", "run.json"} <= names
    assert "not finished" in refusal(lambda: isthmus.load(saved))


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small file system is not permitted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_full_disk(small_disk):
    run = small_disk / "run"
    old = system("gpt2-memory+embedding")
    bundle.save(old, run, RECORD)
    free = shutil.disk_usage(small_disk).free
    for left in (40_000, 16_384, 4096, 0):  # at the weights, or earlier and later
        filler = small_disk / "filler"
        filler.write_bytes(bytes(free - left))
        line = refusal(lambda: bundle.save(system("gpt2-prefix"), run, RECORD))
        assert f"{run}: the disk is full" in line
        filler.unlink()
        assert same_model(isthmus.load(run), old)
        assert not list(run.glob(".unfinished-*"))


def test_folders_that_cannot_be_written(tmp_path, small_disk):
    model = system("gpt2-memory")
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        assert f"{target}: cannot be written" in refusal(lambda: bundle.save(model, target, {}))  # noqa: B023
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    line = refusal(lambda: bundle.save(model, small_disk / "run", {}))
    assert "cannot be written (Read-only file system)" in line
