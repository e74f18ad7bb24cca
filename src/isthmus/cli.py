"""The command ``isthmus``: a dataclass per verb, results on stdout, the rest on stderr."""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from importlib import import_module
from io import TextIOWrapper

from isthmus import __version__
from isthmus.errors import IsthmusError

VERBS = {
    "train": ("isthmus.commands.train", "Train", "train a model with a latent space"),
    "evaluate": (
        "isthmus.commands.measure",
        "Evaluate",
        "measure bounds and how much z is used",
    ),
    "check": ("isthmus.commands.check", "Check", "check that runs are whole"),
    "check-table": (
        "isthmus.commands.tables",
        "CheckTable",
        "find contradictions in a published table",
    ),
    "generate": ("isthmus.commands.codes", "Generate", "write texts under control codes"),
    "attribute": ("isthmus.commands.codes", "Attribute", "predict the control codes of texts"),
    "classify": ("isthmus.commands.labels", "Classify", "predict the labels of texts or pictures"),
    "prior": ("isthmus.commands.prior", "FitPrior", "fit a prior to the aggregate posterior"),
    "encode": ("isthmus.commands.space", "Encode", "texts or pictures → latents"),
    "invert": ("isthmus.commands.invert", "Invert", "vectors without texts → texts"),
    "decode": ("isthmus.commands.space", "Decode", "latents → texts or pictures"),
    "reconstruct": ("isthmus.commands.space", "Reconstruct", "encode and decode again"),
    "transfer": ("isthmus.commands.transfer", "Transfer", "rewrite texts under another label"),
    "sample": ("isthmus.commands.space", "Sample", "sample texts or pictures from the prior"),
    "caption": ("isthmus.commands.doors", "Caption", "pictures → captions"),
    "draw": ("isthmus.commands.doors", "Draw", "captions → pictures"),
    "interpolate": (
        "isthmus.commands.walk",
        "Interpolate",
        "move from one example to another",
    ),
    "analogy": ("isthmus.commands.walk", "Analogy", "A is to B as C is to what?"),
    "exchange": (
        "isthmus.commands.walk",
        "Exchange",
        "what does one of several latents change?",
    ),
    "traverse": ("isthmus.commands.walk", "Traverse", "move along one dimension of z"),
    "neighbours": ("isthmus.commands.walk", "Neighbours", "find the nearest texts or pictures"),
    "codebook": (
        "isthmus.commands.codebook",
        "Codebook",
        "what each entry of a codebook stands for",
    ),
    "cluster": ("isthmus.commands.classes", "Cluster", "group texts or pictures by their latents"),
    "probe": (
        "isthmus.commands.classes",
        "Probe",
        "predict labels from z, given only a few",
    ),
    "optimise": (
        "isthmus.commands.optimise",
        "Optimise",
        "search for texts of which a function says the most",
    ),
    "signs": ("isthmus.commands.signs", "Signs", "find the signs of an undeciphered script"),
    "studio": ("isthmus.commands.studio", "Studio", "explore a latent space in the browser"),
    "push": ("isthmus.commands.push", "Push", "put a run on the Hugging Face hub"),
    "report": ("isthmus.commands.report", "Report", "write a report on a run as one web page"),
    "bench": ("isthmus.commands.bench", "Bench", "compare text systems, or perceptual losses"),
    "convert": (
        "isthmus.commands.convert",
        "Convert",
        "weights from elsewhere → model folder",
    ),
    "import-optimus": ("isthmus.commands.importing", "ImportOptimus", "Optimus checkpoint → run"),
    "import-ctrl": ("isthmus.commands.importing", "ImportCtrl", "original CTRL → run"),
}
"""Verb → module, class, what it does. A module is imported only for its verb."""

OUT_OF_MEMORY = (
    "isthmus: out of memory; use fewer or shorter texts, or, for train, a smaller "
    "--train.tokens-per-batch"
)


def usage() -> str:
    """The text of ``isthmus --help``."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {what}" for verb, (_, _, what) in VERBS.items())
    return (
        "usage: isthmus VERB …\n\n"
        "Variational auto-encoders with language models: latent spaces for sentences.\n\n"
        f"{verbs}\n\n"
        "isthmus VERB --help lists the arguments of a verb. A first run, on built-in data:\n"
        "  isthmus train scenes --recipe demo --out runs/demo\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 for failure, 2 for wrong usage."""
    words = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # Windows writes files in a code page, which lacks most signs.
            stream.reconfigure(errors="replace")
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8")  # as data files are read
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
        # The reader of the output closed it; keep Python from failing again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"isthmus: {place}{error.strerror or error}", file=sys.stderr)
    except MemoryError:
        print(OUT_OF_MEMORY, file=sys.stderr)
    except RuntimeError as error:
        # torch raises subclasses of its own, one on the CPU and another on a GPU.
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        print(OUT_OF_MEMORY, file=sys.stderr)
    return 1


def run(verb: str, words: list[str]) -> int:
    """Parse the arguments of a verb and run it."""
    from isthmus.commands import threads

    began = threads.read()
    import tyro

    module, name, _ = VERBS[verb]
    command = getattr(import_module(module), name)
    words = command.in_full(words)
    chosen = threads.choose_threads(began)
    if chosen and verb == "train":
        print(chosen, file=sys.stderr)
    try:
        parsed = tyro.cli(
            command,
            args=words,
            prog=f"isthmus {verb}",
            default=command.starting_point(words),
        )
    except SystemExit as stop:
        return int(stop.code or 0)
    return parsed.with_local_runs().run() or 0
