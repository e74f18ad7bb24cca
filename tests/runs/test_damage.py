"""Damage that has the right size and the right shape is found, and `isthmus check` says where."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

import isthmus
from isthmus.cli import main
from isthmus.errors import IsthmusError
from isthmus.runs import bundle
from isthmus.runs.digests import write_manifest
from tiny import TEXTS, loud, make, system

WEIGHTS = "model.safetensors"
OLD = Path(__file__).with_name("written_by_0_1_0") / "text"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    bundle.save(system("labels"), folder, {"settings": {"train": {"steps": 7}}})
    return folder


@pytest.fixture
def run(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def refusal(call: Callable[[], object]) -> str:
    """The one line that it is refused with."""
    with pytest.raises(IsthmusError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def flip(path: Path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def with_weights(run: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(run / WEIGHTS)
    change(weights)
    save_file(weights, run / WEIGHTS, {"format": "pt"})


def swap(weights: dict[str, torch.Tensor]) -> None:
    one, other = (
        "decoder.model.transformer.h.0.ln_1.weight",
        "decoder.model.transformer.ln_f.weight",
    )
    weights[one], weights[other] = weights[other], weights[one]


def other_run(run: Path) -> None:
    bundle.save(loud(make(labels="given"), seed=1), run / "other", {})
    shutil.copy(run / "other" / WEIGHTS, run)
    shutil.rmtree(run / "other")


def json_value(run: Path) -> None:
    path = run / "config.json"
    path.write_text(
        path.read_text().replace('"layer_norm_epsilon": 1e-05', '"layer_norm_epsilon": 1e-04')
    )


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit of the body": (lambda run: flip(run / WEIGHTS, -5000), WEIGHTS),
    "a bit of the header": (lambda run: flip(run / WEIGHTS, 30), WEIGHTS),
    "two tensors": (lambda run: with_weights(run, swap), WEIGHTS),
    "weights of another run": (other_run, WEIGHTS),
    "a setting": (json_value, "config.json"),
    "a word": (lambda run: flip(run / "tokenizer.json", -20), "tokenizer.json"),
    "a setting of the run": (
        lambda run: (run / "run.json").write_text(
            (run / "run.json").read_text().replace('"steps": 7', '"steps": 9')
        ),
        "run.json",
    ),
    "no digests": (
        lambda run: (run / "run.json").write_text(
            (run / "run.json").read_text().replace('"digests"', '"Digests"')
        ),
        "run.json",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_of_the_right_size_is_one_line(kind, run, capsys):
    damage, name = DAMAGE[kind]
    damage(run)
    line = refusal(lambda: isthmus.load(run))
    assert f"{run}: {name} changed since the run was written" in line
    assert name in refusal(lambda: AutoModel.from_pretrained(run))
    assert main(["check", str(run)]) == 1
    assert f"  changed    {name}\n" in capsys.readouterr().out


def test_verify_is_an_option(run, capsys):
    flip(run / WEIGHTS, -5000)
    assert len(isthmus.load(run, verify=False).terms(TEXTS).reconstruction) == len(TEXTS)
    assert main(["sample", str(run), "--no-verify", "--count", "1"]) == 0
    assert main(["sample", str(run), "--count", "1"]) == 1
    assert f"{WEIGHTS} changed" in capsys.readouterr().err


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(value, run, tmp_path, capsys):
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["encoder.head.weight"][0, 0] = value

    with_weights(run, change)
    line = refusal(lambda: isthmus.load(run, verify=False))
    assert "NaN or infinity in 1 of its tensors (encoder.head.weight)" in line
    assert main(["check", str(run)]) == 1
    assert "NaN or infinity in 1 of its tensors" in capsys.readouterr().out
    model = make()
    with torch.no_grad():
        next(model.parameters())[0, 0] = value
    assert "NaN or infinity in 1" in refusal(lambda: bundle.save(model, tmp_path / "new", {}))
    assert not (tmp_path / "new").exists()


def test_large_weights_are_finite(tmp_path):
    model = make()
    with torch.no_grad():
        next(model.parameters()).fill_(3e38)  # their sum is not
    bundle.save(model, tmp_path, {})
    isthmus.load(tmp_path)


def test_files_that_transformers_would_read_beside_those_of_the_run(run):
    (run / "notes.txt").write_text("mine")
    isthmus.load(run)
    (run / "special_tokens_map.json").write_text('{"unk_token": "a"}')
    assert "special_tokens_map.json: no file of this run" in refusal(lambda: isthmus.load(run))


def test_a_moved_run_with_another_card_is_whole(run, capsys, caplog):
    (run / "README.md").write_text("---\nlicense: mit\n---\n" + (run / "README.md").read_text())
    (run / ".gitattributes").write_text("*.safetensors filter=lfs")
    run = run.rename(run.with_name("pulled"))
    isthmus.load(run)
    assert not caplog.records
    assert main(["check", str(run)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{run}: whole (written by isthmus")
    assert "  edited     README.md\n" in out
    assert "  unknown    .gitattributes\n" in out
    assert f"  ok         {WEIGHTS}\n" in out


def test_a_run_of_version_0_1_0_loads_with_one_line(caplog, capsys):
    isthmus.load(OLD)
    (line,) = caplog.messages
    assert f"{OLD}: of version 0.1.0, without digests" in line
    assert main(["check", str(OLD)]) == 0
    out = capsys.readouterr().out
    assert "whole, as far as the sizes of its files tell" in out
    assert f"  unchecked  {WEIGHTS}\n" in out


def test_check_of_several_runs_and_checkpoints(run, tmp_path, capsys):
    (run / WEIGHTS).unlink()
    for name in ("checkpoint-1", "checkpoint-2", "checkpoint-3"):
        folder = tmp_path / "unfinished" / "checkpoints" / name
        folder.mkdir(parents=True)
        (folder / "optimizer.pt").write_text("state")
        if name != "checkpoint-3":
            write_manifest(folder, ["optimizer.pt"])
    flip(folder.with_name("checkpoint-2") / "optimizer.pt", 0)
    words = ["check", "--json", str(run), str(tmp_path / "unfinished"), str(tmp_path / "absent")]
    assert main(words) == 1
    damaged, unfinished, absent = map(json.loads, capsys.readouterr().out.splitlines())
    assert damaged["files"][WEIGHTS] == "missing"
    assert damaged["files"]["config.json"] == "ok"
    assert unfinished["checkpoints"] == {
        "checkpoint-1": "ok",
        "checkpoint-2": "optimizer.pt changed",
        "checkpoint-3": "unfinished, or its manifest is damaged",
    }
    assert "was not finished" in unfinished["problems"][0]
    assert "no such run directory" in absent["problems"][0]
    assert not any(one["whole"] for one in (damaged, unfinished, absent))


def set_to(value: object, *place: str) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for name in place[:-1]:
            content = content[name]
        content[place[-1]] = value

    return change


UNVERIFIED: dict[str, list[Callable[[dict], None]]] = {
    "config.json": [
        set_to(None, "decoder"),
        set_to([], "encoder"),
        set_to("many", "latent_size"),
        set_to(10**30, "decoder_pad"),
        set_to(999, "decoder_start"),
        set_to({"model_type": 3}, "decoder"),
        set_to([None], "labels"),
    ],
    "tokenizer.json": [
        set_to(None, "model"),
        set_to("none", "pre_tokenizer"),
        set_to([3], "added_tokens"),
    ],
    "tokenizer_config.json": [
        set_to("new", "bos_token"),
        set_to("", "unk_token"),
        set_to([], "pad_token"),
    ],
    "run.json": [
        set_to("12", "maximum_length"),
        set_to(float("nan"), "bundle_version"),
        set_to([], "settings"),
        set_to({"x" * 400: 1}, "files"),
        set_to("large", "files", "config.json"),
        lambda run: run.pop("bundle_version"),
    ],
}


@pytest.mark.parametrize("name", UNVERIFIED)
def test_json_damaged_in_the_small_is_one_line_without_verification(name, whole, tmp_path):
    for number, change in enumerate(UNVERIFIED[name]):
        run = Path(shutil.copytree(whole, tmp_path / str(number)))
        content = json.loads((run / name).read_text())
        change(content)
        (run / name).write_text(json.dumps(content))
        if name != "run.json":
            record = json.loads((run / "run.json").read_text())
            record["files"][name] = (run / name).stat().st_size
            (run / "run.json").write_text(json.dumps(record))
        assert str(run) in refusal(lambda: isthmus.load(run, verify=False))  # noqa: B023
    for content in ("", "null", "[", "[" * 100_000):
        (run / "run.json").write_text(content)
        assert "run.json: damaged" in refusal(lambda: isthmus.load(run, verify=False))


def test_parts_share_the_size_of_their_latent(tmp_path):
    bundle.save(system("joint"), tmp_path, {})
    content = json.loads((tmp_path / "config.json").read_text())
    content["latent_size"] = 7
    (tmp_path / "config.json").write_text(json.dumps(content))
    record = json.loads((tmp_path / "run.json").read_text())
    record["files"]["config.json"] = (tmp_path / "config.json").stat().st_size
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert "latent_size: got 7" in refusal(lambda: isthmus.load(tmp_path, verify=False))
