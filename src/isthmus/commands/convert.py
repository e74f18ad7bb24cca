"""``isthmus convert``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from isthmus.commands.common import Command, check_new, quiet


@dataclass(frozen=True)
class Convert(Command):
    """Write a model from elsewhere as a plain transformers folder.

    Train with it: isthmus train DATA --out RUN --model.decoder.source FOLDER, or
    --model.encoder.source.

    The folder has safetensors, the tokenizer, and a README that says where the model is from.
    Pickles are read as data only; one that would run code is refused. Nothing is downloaded but an
    adapter's base that is named by its hub name.
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SRC")]
    """A folder with pytorch_model.bin, a folder of a LoRA adapter, a .bin file of llama2.c, or
    a package: glassllm, annalog, rxnmapper, rxnfp, antiberty, iglm (glassllm:pt, iglm:IgLM)."""
    out: str
    """The folder to create."""
    base: str = ""
    """The model that an adapter changes, if it is not where the adapter says."""
    tokenizer: str = ""
    """A folder with the model's tokenizer, or llama2.c's tokenizer.bin, if it is elsewhere."""

    def run(self) -> None:
        out = check_new(self.out)
        quiet()
        from isthmus.models.foreign.plain import write
        from isthmus.models.foreign.sources import read_foreign
        from isthmus.models.tuning import parameter_count

        plain = read_foreign(self.source, self.base, self.tokenizer)
        model = write(plain, out)
        for note in plain.notes:
            print(note, file=sys.stderr)
        print(f"{type(model).__name__}, {parameter_count(model)[0]:,} weights; {out}")
