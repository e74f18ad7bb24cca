"""A space as a model of sentence-transformers; importing this file imports that library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self, final

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import InputModule
from torch import Tensor

from isthmus.errors import IsthmusError
from isthmus.models.base import LatentModel, evaluating, summarised
from isthmus.models.codec import TextCodec
from isthmus.runs import bundle


@final
class Encoder(InputModule):
    """The encoder of a space: a text's vector is its posterior mean, as in :meth:`Space.embed`.

    A model that is saved with it is a run directory of Isthmus too. sentence-transformers loads
    classes that are not its own with ``trust_remote_code=True`` alone.

    Args:
        model: Of texts, with a latent.
        run: The record of its training, as ``run.json`` holds it.

    Raises:
        IsthmusError: It is of something else, or reads vectors in place of texts.
    """

    def __init__(self, model: LatentModel, run: Mapping[str, Any]) -> None:
        super().__init__()
        if not isinstance(model.codec, TextCodec):
            raise IsthmusError(
                f"as_sentence_transformer: got a space of {model.kind.title}s, expected of texts"
            )
        if model.codec.vector_size:
            raise IsthmusError(
                "as_sentence_transformer: this space reads vectors in place of texts; use the "
                "encoder that made them"
            )
        self.model, self.codec, self.run = model, model.codec, dict(run)
        self.tokenizer = self.codec.encoder_tokenizer

    @property
    def max_seq_length(self) -> int:
        """Longest text that is read whole, in tokens."""
        own = self.codec.sentence
        return self.codec.maximum_length if own is None else own.maximum_length

    def get_embedding_dimension(self) -> int:
        """Size of a vector."""
        with summarised(self.model):
            return math.prod(self.model.latent_shape)

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, **options: Any
    ) -> dict[str, Tensor]:
        """Ids and attention mask of texts, [N T]."""
        examples = self.codec.prepare([(prompt or "") + text for text in inputs]).to_encode()
        return dict(examples.collate(range(len(inputs))))

    def forward(self, features: dict[str, Tensor], **options: Any) -> dict[str, Tensor]:
        """Add the vectors, [N D]."""
        with evaluating(self.model), summarised(self.model):
            mean = self.model.posterior(features).mean
        return {**features, "sentence_embedding": mean.flatten(1)}

    def save(self, output_path: str, *arguments: Any, **options: Any) -> None:
        """Write a run directory."""
        bundle.save(self.model, output_path, self.run)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", *_: Any, **options: Any) -> Self:
        """From what :meth:`save` wrote."""
        names = ("token", "cache_folder", "revision", "local_files_only")
        chosen = {name: options[name] for name in names if name in options}
        place = cls.load_dir_path(model_name_or_path, subfolder, **chosen)
        if place is None:
            raise IsthmusError(f"{model_name_or_path}: has no folder {subfolder!r}")
        return cls(bundle.load(place), bundle.read_run(place))


def wrapped(model: LatentModel, run: Mapping[str, Any]) -> SentenceTransformer:
    """A model of sentence-transformers around one of texts, on the same device."""
    return SentenceTransformer(modules=[Encoder(model, run)], device=str(model.device))
