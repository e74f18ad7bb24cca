"""A text VAE as an estimator of scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from isthmus.api import fit
from isthmus.api.given import examples_of
from isthmus.errors import IsthmusError

_GROUPS = ("model", "data", "objective", "train", "first")
Group = dict[str, Any] | None
"""Settings that differ from the recipe, as in one group of a recipe."""


@final
class TextVAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Texts to vectors and back, by a space that is trained on them.

    Every parameter is one of :func:`isthmus.fit`. Equal parameters and texts give equal weights,
    unless time decides: ``minutes``, no recipe, or the precision, which ``train={"precision":
    "float32"}`` fixes. ``train={"seed": 1}`` is another seed.

    Args:
        recipe: A recipe of the package or a .toml file; without one, settings are chosen for the
            texts and this machine.
        minutes: How long ``fit`` may take; by default 10 without a recipe, else as long as the
            recipe needs.
        model, data, objective, train, first: Settings that differ, by group.

    Attributes:
        space_: The :class:`isthmus.Space`, with all else that can be done.

    Examples:
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.linear_model import LogisticRegression
        >>> pipeline = make_pipeline(TextVAE(minutes=5), LogisticRegression())
        >>> pipeline.fit(texts, labels).score(others, their_labels)  # doctest: +SKIP
    """

    def __init__(
        self,
        recipe: str | Path | None = None,
        *,
        minutes: float | None = None,
        model: Group = None,
        data: Group = None,
        objective: Group = None,
        train: Group = None,
        first: Group = None,
    ) -> None:
        self.recipe = recipe
        self.minutes = minutes
        self.model = model
        self.data = data
        self.objective = objective
        self.train = train
        self.first = first

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train a space on texts; ``y`` is not used.

        Args:
            X: N texts, as a list, an array, a column or a table with a column of texts.
            y: Nothing.

        Raises:
            IsthmusError: No texts, or settings that do not fit.
        """
        groups = {name: getattr(self, name) for name in _GROUPS}
        changes = {name: group for name, group in groups.items() if group is not None}
        self.space_ = fit(_texts(X), None, self.recipe, minutes=self.minutes, **changes)
        self._n_features_out = self.space_.size
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Posterior means [N D] of texts, as :meth:`isthmus.Space.embed` has them."""
        check_is_fitted(self)
        return self.space_.embed(_texts(X))

    def inverse_transform(self, X: Any) -> NDArray[np.object_]:
        """Texts [N] for vectors [N D], decoded greedily."""
        check_is_fitted(self)
        z, space = np.asarray(X, dtype=np.float32), self.space_
        if z.ndim != 2 or z.shape[1] != space.size:
            raise IsthmusError(
                f"vectors: got the shape {list(z.shape)}, expected [N, {space.size}]"
            )
        rows = z.reshape(len(z), -1, space.model.latent_shape[-1])
        one_each = len(space.model.latent_shape) == 1
        return np.array(space.decode(rows[:, 0] if one_each else rows), dtype=object)

    def score(self, X: Any, y: Any = None) -> float:
        """The mean bound on log p(x) in nats per text, from one draw of z each; more is better.

        Bounds of two settings compare only where both read the same words: a smaller vocabulary
        finds its texts more probable. ``y`` is not used.
        """
        check_is_fitted(self)
        terms = self.space_.terms(_texts(X))
        return float(-(terms.reconstruction + terms.kl_total).double().mean())

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.transformer_tags.preserves_dtype = []  # vectors are float32
        return tags


def _texts(given: Any) -> list[str]:
    """A list of texts.

    Raises:
        IsthmusError: One text, or no sequence at all.
    """
    texts = examples_of(given)
    if isinstance(texts, str | bytes | dict | Path) or not hasattr(texts, "__iter__"):
        raise IsthmusError(f"texts: got {type(texts).__name__}, expected a list of texts")
    return list(texts)
