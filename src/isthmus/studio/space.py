"""A run that is open in the studio: its model, its corpus, and decoded latents with figures."""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor

from isthmus.data.vectors import Embedded
from isthmus.errors import IsthmusError
from isthmus.explore import losses_under, reads_documents
from isthmus.explore.objectives import Objective
from isthmus.models.base import LatentModel, summarised, summary_of
from isthmus.models.generation import Generation
from isthmus.models.labels import label_set
from isthmus.models.text_model import TextModel
from isthmus.models.tuning import parameter_count
from isthmus.runs.bundle import RUN_FILE, load_fast, read_run
from isthmus.runs.folders import reading
from isthmus.runs.hub import title
from isthmus.studio import examples, limits, map_file, structures
from isthmus.studio.map import NOWHERE, Map
from isthmus.studio.shipped import bundle_corpus, bundle_path

_log = logging.getLogger(__name__)

EXAMPLES: Final = 12
"""How many examples of the corpus the page offers as first inputs."""


@final
class Space:
    """An open run.

    Args:
        run: The run directory as the user wrote it; by default the one that Isthmus ships.
        data: The corpus of the map; by default the run's own if it is built in.
        verify: Check the SHA-256 of every file of the run.
        embeddings: The vectors of the corpus' texts, for a run that reads vectors.

    Raises:
        IsthmusError: Not a run, or no such corpus.
    """

    def __init__(
        self, run: str = "", data: str = "", verify: bool = True, embeddings: str = ""
    ) -> None:
        self.run = run or str(bundle_path())
        self.is_shipped = not run and not data
        self.record = read_run(self.run)
        self.model = model = load_fast(self.run, verify)
        self.kind = model.kind
        self.shape = model.latent_shape
        self.has_space = math.prod(self.shape) > 0
        self.data = data or examples.own_corpus(self.record)
        self.corpus: Any = None
        if self.is_shipped:
            self.corpus = bundle_corpus()
        elif self.data:
            self.corpus = examples.read_corpus(self.data, self.model, embeddings)
        with reading(Path(self.run) / RUN_FILE):
            with summarised(model):
                size = math.prod(model.latent_shape)
            self.spread, self.kl = _dimensions(self.record, size)
        self.objective: Objective | None = None
        self.objective_name = ""
        self.map: Map | None = None
        if self.has_space and self.corpus is not None:
            self.map = Map(self.model, self.corpus, self.spread)
            known, why = map_file.read(Path(self.data), self.map, self.record)
            if why:
                _log.warning("%s %s; encoding its texts again", self.data, why)
            if known is not None:
                self.map.take(known)

    def summary(self) -> dict[str, Any]:
        """The answer to GET /api/run."""
        labels, corpus = label_set(self.model), self.corpus
        source = None if corpus is None else corpus.source
        words = [] if self.is_shipped else [self.run, *(["--data", self.data] * bool(self.data))]
        labelled = corpus is not None and corpus.labels is not None
        return {
            "name": title(Path(self.run)),
            "kind": self.kind.name,
            "system": self.model.config.model_type.removeprefix("isthmus-"),
            "parameters": parameter_count(self.model)[0],
            "latent_size": math.prod(self.shape),
            "summary": self.model.config.summary,
            "labels": list(labels.read_names),
            "null_code": labels.null_code,
            "corpus": source and {"source": source, "count": len(corpus), "labelled": labelled},
            "can": self.can(),
            "dimensions": self.dimensions(),
            "limits": {
                "text": limits.TEXT,
                "batch": limits.BATCH,
                "new_tokens": limits.NEW_TOKENS,
                "steps": limits.STEPS,
            },
            "examples": self.examples(),
            "objective": self.objective_name,
            "path": self.run,
            "command": shlex.join(["isthmus", "studio", *words]),
        }

    def can(self) -> dict[str, bool]:
        """What this run can be used for."""
        return {
            "space": self.has_space,
            "sentences": self.documents is not None,
            "exchange": self.has_space and self.model.config.latents > 1,
            "control": bool(label_set(self.model).read_names),
            "caption": examples.has_both(self.model),
            "draw": examples.has_both(self.model),
            "codebook": self.corpus is not None and self.model.config.prior == "codebook",
            "optimise": self.objective is not None,
            "structures": self.has_structures,
            "signs": False,
        }

    @property
    def documents(self) -> TextModel | None:
        """The model, if its inputs are texts alone, which have sentences."""
        alone = self.has_space and not self._with_vectors
        return self.model if alone and reads_documents(self.model) else None

    @cached_property
    def has_structures(self) -> bool:
        """Whether texts are molecules that can be drawn."""
        return (
            self.corpus is not None
            and not self.kind.has_pictures
            and structures.are_molecules(self.corpus.texts)
        )

    def shown(self, example: Any) -> dict[str, Any]:
        """An example as JSON, with the address of its structure if it is a molecule."""
        found = examples.shown(example)
        place = structures.address(found["text"]) if self.has_structures else None
        return found if place is None else {**found, "structure": place}

    def find(self, text: str, limit: int) -> dict[str, Any]:
        """Examples whose text, or picture's name, contains ``text``; case is ignored."""
        if self.corpus is None:
            raise IsthmusError("no corpus to search; start the studio with --data FILE")
        if not 0 < len(text) <= limits.TEXT:
            raise IsthmusError(
                f"text: got {len(text):,} characters, expected 1 to {limits.TEXT:,} to search for"
            )
        sought = text.casefold()
        found = [row for row, name in enumerate(self._folded) if sought in name]
        return {"count": len(found), "indices": found[: max(0, min(limit, limits.LISTED))]}

    @cached_property
    def _folded(self) -> list[str]:
        return [name.casefold() for name in self.corpus.titles]

    def examples(self) -> list[Any]:
        """First inputs for the page, evenly spaced in the corpus."""
        if self.corpus is None:
            return []
        rows = torch.linspace(0, len(self.corpus) - 1, EXAMPLES).long().unique().tolist()
        if not self.kind.has_pictures:
            return [self.corpus.texts[row] for row in rows]
        return [{"index": row} for row in rows]

    def dimensions(self) -> list[dict[str, Any]]:
        """Every dimension of z, largest KL first; the widest first if the KL is not known.

        Of a model with two levels, those of the summary.
        """
        ready = self.map is not None and self.map.ready
        means = self.map.mean.mean(0).tolist() if self.map is not None and ready else None
        order = self.spread if self.kl is None else self.kl
        return [
            {
                "dimension": place,
                "kl": None if self.kl is None else float(self.kl[place]),
                "spread": float(self.spread[place]),
                "mean": means and means[place],
            }
            for place in order.argsort(descending=True).tolist()
        ]

    def check_space(self) -> None:
        """Raise if there is no latent to move in."""
        if not self.has_space:
            raise IsthmusError("this run has no latent vector to move in; open another run")

    def known_map(self) -> Map:
        """The map.

        Raises:
            IsthmusError: No corpus, or no space.
        """
        self.check_space()
        if self.map is None:
            raise IsthmusError("no corpus to map; start the studio with --data FILE")
        return self.map

    def example(self, given: Any) -> Any:
        """The example that the model reads for an input: a text, a data URL, or an index.

        Raises:
            IsthmusError: The input is none of these, or too large.
        """
        if isinstance(given, str):
            return self._with_vectors.get(given) or examples.example_of(self.model, given)
        return self.corpus_example(given.index)

    @cached_property
    def _with_vectors(self) -> dict[str, str]:
        """The texts of the corpus that carry given vectors, by themselves."""
        texts = [] if self.corpus is None else self.corpus.examples
        return {text: text for text in texts if isinstance(text, Embedded)}

    @property
    def whole_data(self) -> str:
        """DATA with which a command reads the same corpus; empty if no command can."""
        return "" if self.is_shipped or len(self.corpus) == limits.CORPUS else self.data

    def corpus_example(self, index: int) -> Any:
        """An example of the corpus."""
        count = 0 if self.corpus is None else len(self.corpus)
        if not 0 <= index < count:
            raise IsthmusError(f"index: got {index:,}, the corpus has {count:,} examples, from 0")
        return self.corpus.examples[index]

    def picture_name(self, index: int) -> str:
        """A picture of the corpus as commands name it, DATA#PLACE."""
        self.corpus_example(index)
        return f"{self.data}#{index}"

    def check_latents(self, z: Sequence[Sequence[float]]) -> Tensor:
        """Latents [N P] from a client; K latents [N K P] come as K·P numbers each.

        Raises:
            IsthmusError: Another number of numbers, or too large ones.
        """
        self.check_space()
        size = math.prod(self.shape)
        for row in z:
            if len(row) != size:
                raise IsthmusError(
                    f"z: got {len(row)} numbers, expected one per dimension, {size}"
                )
        found = torch.tensor(z, dtype=torch.float32).view(len(z), *self.shape)
        if not bool((found.abs() <= limits.FAR).all()):
            raise IsthmusError(f"z: expected numbers from −{limits.FAR:g} to {limits.FAR:g}")
        return found

    def items(self, z: Tensor, decoded: Sequence[Any]) -> list[dict[str, Any]]:
        """Decoded latents [N P], each with its densities, losses and place on the map.

        ``z`` of an answer is all numbers of a latent in a row. Of a model with two levels the
        density is that of the summary.
        """
        z = self.model.as_latents(z.detach().float().cpu())
        about = summary_of(self.model, z)
        with summarised(self.model):
            log_prior = _numbers(self.model.prior.log_prob(about.to(self.model.device)))
        losses = _numbers(losses_under(self.model, decoded, z))
        where = [NOWHERE] * len(z) if self.map is None else self.map.locate(about)
        rows = zip(z.flatten(1).tolist(), decoded, log_prior, losses, where, strict=True)
        return [
            {
                **self.shown(example),
                "z": numbers,
                "log_prior": density,
                "reconstruction": loss,
                **found,
            }
            for numbers, example, density, loss, found in rows
        ]

    def decoded(
        self, z: Tensor, generation: Generation, labels: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Decode latents [N P] as one batch, each under its own label if it has one."""
        return self.items(z, examples.decode(self.model, z, generation, labels))


def watched(model: LatentModel, step: Callable[[], None], call: Callable[[], Any]) -> Any:
    """Make a model call, with ``step`` called before each pass of the decoder; it may raise."""
    handles = [
        module.register_forward_pre_hook(lambda *_: step()) for module in examples.decoders(model)
    ]
    try:
        return call()
    finally:
        for handle in handles:
            handle.remove()


def _numbers(values: Tensor) -> list[float | None]:
    """Numbers for JSON, which has no infinity."""
    return [value if math.isfinite(value) else None for value in values.tolist()]


def _dimensions(record: dict[str, Any], size: int) -> tuple[Tensor, Tensor | None]:
    """The aggregate posterior's standard deviation per dimension [P], and the KL if known.

    An imported run records neither; its spread is taken as the prior's, 1. Details, which come
    after the summary, are left out.
    """
    metrics = record.get("metrics", {})
    spread = torch.tensor(metrics.get("aggregate_standard_deviation", [1.0] * size)[:size])
    kl = torch.tensor(metrics.get("kl_per_dimension", [])[:size])
    return spread, (kl if len(kl) == size else None)
