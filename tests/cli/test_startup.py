"""A verb imports what it needs: other heavy libraries stay on the disk."""

import shutil
import subprocess
import sys

import torch
from safetensors.torch import load_file, save_file

HEAVY = ["accelerate", "datasets", "matplotlib", "pandas", "peft", "pyarrow", "scipy", "sklearn"]
HEAVY += ["torch._dynamo.convert_frame", "torch.distributed.tensor", "torch.distributed.fsdp"]

SCRIPT = f"""
import gc, sys
from isthmus.cli import main

def verb(*words):
    assert main([*words]) == 0, words
    print("after", words[0], *sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr)

run, texts, latents = sys.argv[1:]
verb("encode", run, texts, "--out", latents)
verb("decode", run, latents)
verb("sample", run, "--count", "1")
verb("reconstruct", run, texts)
verb("neighbours", run, texts, "a red circle")
verb("interpolate", run, "a red circle", "a blue square")
verb("evaluate", run, texts, "--samples", "2")
assert gc.isenabled()
from transformers.utils import is_accelerate_available, is_scipy_available
print("after all", is_accelerate_available(), is_scipy_available(), file=sys.stderr)
settings = "--train.steps 1 --data.limit 50 --train.validation 5 --model.encoder.layers 1".split()
verb("train", "scenes", "--recipe", "demo", "--out", latents + ".run", *settings)
import torch
assert torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(1)) == 1
"""


def test_verbs_leave_out_what_they_do_not_need(run, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("a red circle\na blue square\n", encoding="utf-8")
    latents = str(tmp_path / "latents.npz")
    command = [sys.executable, "-c", SCRIPT, str(run), str(texts), latents]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    verbs = ("encode", "decode", "sample", "reconstruct", "neighbours", "interpolate", "evaluate")
    shown = [line for line in done.stderr.splitlines() if line.startswith("after ")]
    assert shown[:-1] == [*(f"after {verb}" for verb in verbs), "after all True True"]


def test_encode_reads_no_weights_of_the_decoder_and_decode_none_of_the_encoder(
    isthmus, run, tmp_path
):
    """Where these are not finite, a run that loads them is refused."""
    texts, latents = tmp_path / "texts.txt", tmp_path / "latents.npz"
    texts.write_text("a red circle\n", encoding="utf-8")
    found = {}
    for part in ("decoder", "encoder"):
        broken = tmp_path / part
        shutil.copytree(run, broken)
        weights = load_file(broken / "model.safetensors")
        for name, tensor in weights.items():
            if name.startswith(f"{part}."):
                tensor.fill_(torch.nan)
        save_file(weights, broken / "model.safetensors", {"format": "pt"})
        encoded = isthmus("encode", broken, texts, "--out", latents, "--no-verify")
        decoded = isthmus("decode", broken, latents, "--no-verify")
        drawn = isthmus("sample", broken, "--count", "1", "--no-verify")
        found[part] = encoded.code, decoded.code, drawn.code
    assert found == {"decoder": (0, 1, 1), "encoder": (1, 0, 0)}
