"""The command ``isthmus``: one dataclass a verb, results on stdout, the rest on stderr."""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from importlib import import_module

from isthmus import __version__
from isthmus.errors import IsthmusError

VERBS = {
    "train": ("isthmus.commands.train", "Train", "turn a text file into a latent space"),
    "evaluate": ("isthmus.commands.measure", "Evaluate", "bounds, perplexities, use of z"),
    "check-table": ("isthmus.commands.tables", "CheckTable", "what a printed table breaks"),
    "generate": ("isthmus.commands.codes", "Generate", "texts under control codes"),
    "attribute": ("isthmus.commands.codes", "Attribute", "the code that texts come from"),
    "classify": ("isthmus.commands.labels", "Classify", "predict the label of texts"),
    "prior": ("isthmus.commands.measure", "FitPrior", "fit a prior to the aggregate posterior"),
    "encode": ("isthmus.commands.space", "Encode", "texts → latents"),
    "decode": ("isthmus.commands.space", "Decode", "latents → texts"),
    "reconstruct": ("isthmus.commands.space", "Reconstruct", "texts → latents → texts"),
    "transfer": ("isthmus.commands.transfer", "Transfer", "texts under another label"),
    "sample": ("isthmus.commands.space", "Sample", "texts from the prior"),
    "caption": ("isthmus.commands.doors", "Caption", "pictures → texts (a run of both)"),
    "draw": ("isthmus.commands.doors", "Draw", "texts → pictures (a run of both)"),
    "interpolate": ("isthmus.commands.walk", "Interpolate", "walk from one text to another"),
    "analogy": ("isthmus.commands.walk", "Analogy", "A is to B as C is to …"),
    "traverse": ("isthmus.commands.walk", "Traverse", "move along one dimension"),
    "neighbours": ("isthmus.commands.walk", "Neighbours", "nearest texts of a corpus"),
    "cluster": ("isthmus.commands.classes", "Cluster", "group the texts of a corpus"),
    "probe": ("isthmus.commands.classes", "Probe", "classify texts by z with few labels"),
    "signs": ("isthmus.commands.signs", "Signs", "the signs of an undeciphered script"),
    "studio": ("isthmus.commands.studio", "Studio", "look around in the browser"),
    "report": ("isthmus.commands.report", "Report", "a run as one page to send to someone"),
    "bench": (
        "isthmus.commands.bench",
        "Bench",
        "all text systems in one table; perceptual losses",
    ),
    "import-optimus": (
        "isthmus.commands.importing",
        "ImportOptimus",
        "a checkpoint of the paper's code → a run",
    ),
    "import-ctrl": ("isthmus.commands.importing", "ImportCtrl", "the original CTRL → a run"),
}
"""Verb → module, class, what it does. The modules load only when their verb is called."""


OUT_OF_MEMORY = (
    "isthmus: out of memory; take fewer or shorter texts, or for train a smaller "
    "--train.tokens-per-batch"
)


def usage() -> str:
    """The page of ``isthmus --help``."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {what}" for verb, (_, _, what) in VERBS.items())
    return (
        "usage: isthmus VERB …\n\n"
        "Language models as variational auto-encoders: a space for sentences.\n\n"
        f"{verbs}\n\n"
        "isthmus VERB --help tells a verb's arguments. A first run, on the built-in corpus:\n"
        "  isthmus train scenes --recipe demo --out runs/demo\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 for failure, 2 for wrong usage."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        print(usage(), end="", file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] == "--version":
        print(__version__)
        return 0
    verb = words[0]
    if verb not in VERBS:
        near = get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(VERBS)}"
        print(f"isthmus: unknown verb {verb!r}; {hint}", file=sys.stderr)
        return 2
    try:
        return run(verb, words[1:])
    except IsthmusError as error:
        print(f"isthmus: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("isthmus: interrupted", file=sys.stderr)
    except BrokenPipeError:
        # Whoever read the output has enough; Python must not complain again while closing it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"isthmus: {place}{error.strerror or error}", file=sys.stderr)
    except MemoryError:
        print(OUT_OF_MEMORY, file=sys.stderr)
    except RuntimeError as error:
        # torch raises its own kinds of it, on the CPU and on a GPU.
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        print(OUT_OF_MEMORY, file=sys.stderr)
    return 1


def run(verb: str, words: list[str]) -> int:
    """Parse a verb's arguments and do it."""
    import tyro

    module, name, _ = VERBS[verb]
    command = getattr(import_module(module), name)
    try:
        parsed = tyro.cli(
            command,
            args=words,
            prog=f"isthmus {verb}",
            default=command.starting_point(words),
        )
    except SystemExit as stop:
        return int(stop.code or 0)
    return parsed.run() or 0
