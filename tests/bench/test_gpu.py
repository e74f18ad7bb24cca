"""The script for one GPU in miniature on a processor: every part gives figures, or its reason."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(SCRIPTS))
    try:
        spec = importlib.util.spec_from_file_location("gpu", SCRIPTS / "gpu.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["gpu"] = module  # its dataclass looks there
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(SCRIPTS))
        sys.modules.pop("gpu", None)


def test_every_part_is_measured_and_no_failure_takes_others_with_it(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script.common, "RESULTS", tmp_path)
    shape = dataclasses.replace(script.MINIATURE, backend="no-such-compiler")
    found = script.everything(lambda part, limit: script.guarded(part, shape, CPU))
    failed = {part for part, row in found.items() if "error" in row}
    assert failed == {part for part in script.PARTS if "compiled" in part}
    assert "no-such-compiler" in found["full, compiled"]["error"]
    flops = {part: found[part]["flops_per_token"] for part in ("full", "lora", "frozen")}
    assert flops["frozen"] < min(flops["full"], flops["lora"])
    assert all(found[part]["tokens_per_second"] > 0 for part in flops)
    assert found["full"]["tokens"] == 4 * 7, "four texts of six words and their end"
    assert found["parity"]["float32"]["largest_difference_nats"] == 0
    assert 0 < found["parity"]["bf16"]["largest_difference_nats"] < 0.5
    assert found["largest"]["sentences"] == 8
    assert abs(found["likelihood"]["difference"]["value"]) < 0.5
    assert found["decoding"]["sentences_per_second_3_bf16"] > 0
    written = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert written["parts"] == found
    assert "| full |" in (tmp_path / "gpu.md").read_text(encoding="utf-8")


def test_the_flops_of_a_step_are_those_of_its_matrices(script):
    """6 FLOPs for a weight and each row that it maps; attention adds a little."""
    shape = dataclasses.replace(script.MINIATURE, sentences=64, length=4)
    layer = 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 32  # two of the four key heads, a gated MLP
    decoder = 3 * (2 * layer + 16 * 64)  # three predicted tokens a text
    encoder = 4 * (4 * 16 * 16 + 2 * 16 * 32)
    head, bridge = 16 * 2 * 64, 64 * 16 + 64 * 4 * (2 * 2 * 4)
    counted = script.training(shape, CPU, "full", compiled=False)["flops_per_token"]
    assert counted * 3 == pytest.approx(6 * (decoder + encoder + head + bridge), rel=0.03)


@pytest.mark.filterwarnings("ignore")  # what tracing meets in transformers
def test_a_compiled_step_is_measured(script):
    found = script.training(script.MINIATURE, CPU, "frozen", compiled=True)
    assert 0 < found["utilisation"] < 1
