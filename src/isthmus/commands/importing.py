"""``isthmus import-optimus`` and ``isthmus import-ctrl``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from isthmus.commands.common import Command, check_new, quiet
from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from isthmus.models.original.state import Original


@dataclass(frozen=True)
class ImportOptimus(Command):
    """Convert a checkpoint of the Optimus authors' code (ChunyuanLI/Optimus) to a run directory.

    Pickles are read as data only; one that would run code is refused. Checkpoints do not contain
    the vocabularies: put the vocab.txt of bert-base-cased and the vocab.json and merges.txt of
    gpt2 next to the checkpoint.
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SRC")]
    """A folder checkpoint-full-STEP, checkpoint-encoder-STEP or checkpoint-decoder-STEP;
    a training.bin; or a folder that contains these. Of several steps, the newest is used."""
    out: str
    """The run directory to create."""
    bridge: Literal["as-trained", "memory+embedding", "memory", "embedding"] = "as-trained"
    """How z enters the decoder.
    as-trained: as the checkpoint's arguments say, or memory+embedding without arguments."""
    encoder_tokenizer: str = ""
    """Folder or hub name of the encoder's vocabulary, if it is not next to the checkpoint."""
    decoder_tokenizer: str = ""
    """Folder or hub name of the decoder's vocabulary, if it is not next to the checkpoint."""

    def run(self) -> None:
        check_new(self.out)
        quiet()
        from isthmus.models.original.convert import convert
        from isthmus.models.original.files import find, read
        from isthmus.models.original.tokenizers import codec_of
        from isthmus.runs.bundle import save

        *older, checkpoint = find(self.source)
        if older:
            steps = ", ".join(each.step or "no number" for each in [*older, checkpoint])
            _log(f"{self.source}: steps {steps}; using the newest, {checkpoint.step}")
        original = read(checkpoint)
        bridge = original.bridge if self.bridge == "as-trained" else self.bridge
        if original.extras:
            _log(f"not part of the VAE, left out: {', '.join(original.extras)}")
        if unused := original.unused(bridge):
            _log(f"not part of the bridge {bridge}, left out: {', '.join(unused)}")
        given = {"encoder": self.encoder_tokenizer, "decoder": self.decoder_tokenizer}
        codec = codec_of(checkpoint, original, bridge, given)
        model = convert(original, bridge, codec)
        save(model, self.out, record_of(checkpoint.step, original, bridge))
        print(
            f"{original.name}: {model.config.latent_size} dimensions of z, bridge {bridge}; "
            f"{self.out}"
        )


@dataclass(frozen=True)
class ImportCtrl(Command):
    """Convert the original CTRL, or a checkpoint in the same format, to a run directory.

    Its control codes become the codes of the run, with their published priors. Then try
    isthmus generate RUN --code Reviews --code "Rating: 5.0", or isthmus attribute RUN FILE.
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SRC")]
    """A folder with config.json, the weights of a CTRLLMHeadModel, vocab.json and merges.txt."""
    out: str
    """The run directory to create."""

    def run(self) -> None:
        check_new(self.out)
        if not Path(self.source).is_dir():
            raise IsthmusError(f"{self.source}: no such folder; expected one with a CTRL model")
        quiet()
        from isthmus.models.original.ctrl import convert_ctrl
        from isthmus.runs.bundle import save

        model = convert_ctrl(self.source)
        origin = {
            "code": "salesforce/ctrl (Keskar et al. 2019, arXiv 1909.05858)",
            "checkpoint": Path(self.source).name,
        }
        save(model, self.out, {"imported": origin, "metrics": {}})
        print(f"{Path(self.source).name}: {len(model.label_set.names)} codes; {self.out}")


def _log(line: str) -> None:
    print(line, file=sys.stderr)


def record_of(step: str, original: Original, bridge: str) -> dict[str, Any]:
    """What run.json says of the origin: names, but no paths of this machine."""
    return {
        "imported": {
            "code": "ChunyuanLI/Optimus (Li et al. 2020, arXiv 2004.04092)",
            "checkpoint": original.name,
            "step": step,
            "arguments": original.arguments,
            "left_out": original.extras + original.unused(bridge),
        },
        "metrics": {},
    }
