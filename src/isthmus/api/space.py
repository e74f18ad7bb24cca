"""A space: a trained model with what can be done in it as methods."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from isthmus.api import inverting, measuring, searching, walking
from isthmus.api.given import Data, examples_of, is_one, model_of
from isthmus.api.shown import described, space_html
from isthmus.errors import IsthmusError
from isthmus.evaluation.searching import Searched
from isthmus.explore import walks
from isthmus.explore.objectives import Function
from isthmus.latent.distribution import Posterior, Single
from isthmus.latent.objective import Terms
from isthmus.models.base import LatentModel, summarised
from isthmus.models.config import LatentConfig
from isthmus.models.generation import Generation
from isthmus.models.inversion import ROUNDS, Embed
from isthmus.progress import console, counting, quiet
from isthmus.runs import bundle
from isthmus.runs.hub import local

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@final
class Space:
    """A trained model and what can be done in its space, one call each.

    One text (or picture) in gives one vector or one text out, a list gives a list. A column of
    pandas, polars or datasets is a list, and such a table is its column of texts.

    Args:
        model: Any model; of most methods one with a latent.
        run: The record of its training, as ``run.json`` holds it.

    Examples:
        >>> space = isthmus.Space.load("runs/reviews")  # doctest: +SKIP
        >>> space.decode(space.encode("the food was cold"))  # doctest: +SKIP
        'the food was cold'
    """

    def __init__(self, model: LatentModel, run: Mapping[str, Any] | None = None) -> None:
        self.model = model_of(model)
        self.run = dict(run or {})

    @classmethod
    def load(cls, folder: str | Path, verify: bool = True) -> Self:
        """The space of a run directory, or of ``owner/name`` on the hub, in evaluation mode."""
        place = local(folder)
        quiet()
        return cls(bundle.load(place, verify), bundle.read_run(place))

    @property
    def config(self) -> LatentConfig:
        """The configuration of the model."""
        return self.model.config

    @property
    def size(self) -> int:
        """D, the numbers in a vector of :meth:`embed`."""
        with summarised(self.model):
            return math.prod(self.model.latent_shape)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the run by group, with all that was chosen for it."""
        found: dict[str, Any] = self.run.get("settings", {})
        return found

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures on its validation examples, see docs/numbers.md."""
        found: dict[str, Any] = self.run.get("metrics", {})
        return found

    def encode(self, examples: Any) -> Posterior | Single:
        """q(z|x), a distribution with mean, log_variance, rsample, log_prob, kl.

        Returns:
            Of a list of N examples with means [N P] (or [N K P]); of one example with [P].
        """
        model, given = walking.with_latent(self), examples_of(examples)
        count = len(given) if hasattr(given, "__len__") and not isinstance(given, str) else 1
        with counting(console(), "encoding", count) as progress:
            found = model.encode(given, progress)
        return found[0] if is_one(model, given) else found

    def embed(self, examples: Any) -> NDArray[np.float32]:
        """Vectors for other tools, [N D]; [D] of one example.

        They are the posterior means; of K latents the K·P numbers; of a model with a summary
        those of the summary.
        """
        given = examples_of(examples)
        with summarised(self.model):
            found = walking.means(self, given).flatten(1).float().numpy()
        return found[0] if is_one(self.model, given) else found

    def decode(self, z: Any, generation: Generation | None = None) -> Any:
        """Texts (or pictures) for latents, greedily by default.

        Args:
            z: A vector [P], vectors [N P], as arrays of numpy or torch or lists of numbers; or
                what :meth:`encode` returns, whose mean is decoded. Vectors of :meth:`embed` too.
            generation: How to decode.

        Returns:
            One text for a vector, a list for several.
        """
        model = walking.with_latent(self)
        z = z.mean if isinstance(z, Posterior | Single) else self.unflattened(z)
        z = model.as_latents(z)
        found = model.decode(z, generation)
        return found[0] if z.ndim == len(model.latent_shape) else found

    def unflattened(self, z: Any) -> Any:
        """Vectors [... D] of :meth:`embed` in the shape of latents; other shapes as they are.

        Only of a summary of one latent could [K P] be either. An array of numpy, as :meth:`embed`
        returns, is then K vectors, and a tensor, as the mean of :meth:`encode` is, K latents.
        """
        shape, summary = self.model.latent_shape, self.config.summary
        if len(shape) == 1:
            return z
        try:
            z = z if isinstance(z, Tensor) else np.asarray(z, dtype=np.float32)
        except (TypeError, ValueError):
            return z  # refused where latents are checked
        rows = z.ndim == 2 and summary == 1 and (len(z) == 1 or not isinstance(z, Tensor))
        if tuple(z.shape[-2:]) in (shape, (summary, shape[1])) and not rows:
            return z
        flat = z.ndim > 0 and z.shape[-1] in (math.prod(shape), self.size)
        return z.reshape(*z.shape[:-1], -1, shape[1]) if flat else z

    def reconstruct(self, examples: Any, generation: Generation | None = None) -> Any:
        """What comes back: encode, then decode the mean; one for one, a list for a list."""
        given = examples_of(examples)
        one = is_one(self.model, given)
        some = [given] if one else given
        own = walks.likely_labels(self.model, some)
        found = walks.decode_as(self.model, walking.means(self, some), own, generation)
        return found[0] if one else found

    def terms(self, examples: Any, seed: int = 0) -> Terms:
        """Reconstruction [N] and KL [N P] of examples in nats, from one draw of z each."""
        return self.model.terms(examples_of(examples), seed)

    def invert(
        self,
        vectors: Any,
        encoder: str | Embed | None = None,
        rounds: int = ROUNDS,
        seed: int = 0,
    ) -> list[str]:
        """The texts of vectors that came without any, see :func:`isthmus.invert`."""
        return inverting.invert(self, vectors, encoder, rounds, seed)

    def interpolate(
        self,
        start: Any,
        end: Any,
        steps: int = 5,
        path: walks.Path = "slerp",
        generation: Generation | None = None,
    ) -> list[Any]:
        """The way from one example to another, see :func:`isthmus.interpolate`."""
        return walking.interpolate(self, start, end, steps, path, generation)

    def arithmetic(
        self,
        examples: Any,
        plus: Any,
        minus: Any,
        weight: float = 1.0,
        generation: Generation | None = None,
    ) -> Any:
        """Examples moved by the difference of others, see :func:`isthmus.arithmetic`."""
        return walking.arithmetic(self, examples, plus, minus, weight, generation)

    def exchange(
        self, a: Any, b: Any, generation: Generation | None = None
    ) -> list[walking.Exchanged]:
        """One example with each latent of another in turn, see :func:`isthmus.exchange`."""
        return walking.exchange(self, a, b, generation)

    def sample(
        self, count: int | None = None, seed: int = 0, generation: Generation | None = None
    ) -> Any:
        """Texts or pictures from the prior; one of them without a count."""
        found = walking.sample(self, 1 if count is None else count, seed, generation)
        return found[0] if count is None else found

    def optimise(self, objective: Function, data: Data = None, **options: Any) -> Searched:
        """Texts of which a function says the most; options of :func:`isthmus.optimise`."""
        return searching.optimise(self, objective, data, **options)

    def neighbours(self, data: Data, query: Any, count: int = 5) -> list[Any]:
        """The examples of ``data`` that are nearest to one, see :func:`isthmus.neighbours`.

        Returns:
            The neighbours of one example; a list of such lists for several.
        """
        queries = examples_of(query)
        one = is_one(self.model, queries)
        found = walking.nearest(self, data, [queries] if one else queries, count)
        return found[0] if one else found

    def cluster(
        self, data: Data, clusters: int, method: walks.Clustering = "kmeans", seed: int = 0
    ) -> list[int]:
        """A cluster for every example of ``data``, see :func:`isthmus.cluster`."""
        return walking.cluster(self, data, clusters, method, seed)

    def evaluate(self, data: Data, **options: Any) -> dict[str, Any]:
        """Every figure of ``isthmus evaluate``; options of :func:`isthmus.evaluate`."""
        return measuring.evaluate(self, data, **options)

    def save(self, folder: str | Path) -> None:
        """Write a run directory, which :meth:`load` and every verb of the command line read.

        Raises:
            IsthmusError: The folder has something in it, or cannot be written.
        """
        place = Path(folder)
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise IsthmusError(f"{folder}: has something in it; save to a new folder")
        quiet()
        bundle.save(self.model, place, self.run)

    def push(
        self, name: str, *, private: bool = False, license: str = "", language: Sequence[str] = ()
    ) -> str:
        """Put the run on the Hugging Face hub, as ``isthmus push`` does; the commit's address.

        Args:
            name: The repository, ``owner/name``; made if there is none.
            private: Make it so that only its owner sees it.
            license: For the card, as the hub abbreviates it: ``"apache-2.0"``.
            language: Of the texts, for the card: ``["en"]``.

        Raises:
            IsthmusError: A repository of something else, or the hub refuses.
        """
        from isthmus.runs.push import push

        with TemporaryDirectory() as folder:
            self.save(folder)
            return push(folder, name, private=private, licence=license, languages=language)

    def as_sentence_transformer(self) -> SentenceTransformer:
        """The encoder as a model of sentence-transformers, whose vectors are those of `embed`.

        Raises:
            IsthmusError: That library is not installed, or the model reads something else.
        """
        try:
            from isthmus.api.sentence_transformer import wrapped
        except ImportError as error:
            if error.name != "sentence_transformers":
                raise
            raise IsthmusError(
                "as_sentence_transformer: the package is not installed; run: pip install "
                "sentence-transformers"
            ) from error
        return wrapped(walking.with_latent(self), self.run)

    def __getstate__(self) -> dict[str, bytes]:
        """The files of the run directory, so that no weights are pickled."""
        quiet()
        with TemporaryDirectory() as folder:
            bundle.save(self.model, folder, self.run)
            paths = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
            return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    def __setstate__(self, files: Mapping[str, bytes]) -> None:
        with TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            vars(self).update(vars(Space.load(folder)))

    def __repr__(self) -> str:
        return f"Space({'; '.join(described(self.model, self.run))})"

    def _repr_html_(self) -> str:
        return space_html(self.model, self.run)
