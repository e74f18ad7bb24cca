"""``isthmus import-optimus`` and ``isthmus import-ctrl``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from isthmus.commands.common import Command, quiet
from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from isthmus.models.original.state import Original


@dataclass(frozen=True)
class ImportOptimus(Command):
    """Turn a checkpoint of the Optimus paper's code (ChunyuanLI/Optimus) into a run directory.

    Its pickles are read as data: one that asks for anything else is refused. The vocabularies,
    which no checkpoint holds, are looked for beside it: vocab.txt of bert-base-cased, vocab.json
    and merges.txt of gpt2.
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SRC")]
    """A folder with checkpoint-full-STEP, or checkpoint-encoder-STEP and checkpoint-decoder-STEP;
    one of these; or a training.bin. Of several steps the newest is taken."""
    out: str
    """The run directory to make."""
    bridge: Literal["as-trained", "memory+embedding", "memory", "embedding"] = "as-trained"
    """How z enters the decoder; as-trained follows the checkpoint's arguments, and has both ways
    where there are none."""
    encoder_tokenizer: str = ""
    """Folder or hub name, where vocab.txt is not beside the checkpoint."""
    decoder_tokenizer: str = ""
    """Folder or hub name, where vocab.json and merges.txt are not beside the checkpoint."""

    def run(self) -> None:
        """Read, convert, save."""
        if Path(self.out).exists():
            raise IsthmusError(f"{self.out}: exists already; choose another folder with --out")
        quiet()
        from isthmus.models.original.convert import convert
        from isthmus.models.original.files import find, read
        from isthmus.models.original.tokenizers import codec_of
        from isthmus.runs.bundle import save

        *older, checkpoint = find(self.source)
        if older:
            steps = ", ".join(each.step or "no number" for each in [*older, checkpoint])
            tell(f"{self.source}: steps {steps}; taking the newest, {checkpoint.step}")
        original = read(checkpoint)
        bridge = original.bridge if self.bridge == "as-trained" else self.bridge
        if original.extras:
            tell(f"not part of the VAE, left out: {', '.join(original.extras)}")
        if unused := original.unused(bridge):
            tell(f"not part of the bridge {bridge}, left out: {', '.join(unused)}")
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
    """Turn the original CTRL, or a checkpoint of its shape, into a run directory.

    Its control codes become the codes of the run, with the priors of the release: isthmus generate
    RUN --code Reviews --code "Rating: 5.0", isthmus attribute RUN FILE.
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SRC")]
    """A folder with config.json and weights of a CTRLLMHeadModel, vocab.json and merges.txt."""
    out: str
    """The run directory to make."""

    def run(self) -> None:
        """Read, convert, save."""
        if Path(self.out).exists():
            raise IsthmusError(f"{self.out}: exists already; choose another folder with --out")
        if not Path(self.source).is_dir():
            raise IsthmusError(f"{self.source}: no such folder, expected one with a CTRL model")
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


def tell(line: str) -> None:
    """A line beside the result."""
    print(line, file=sys.stderr)


def record_of(step: str, original: Original, bridge: str) -> dict[str, Any]:
    """What run.json tells of the origin: names, never folders of the machine."""
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
