"""Requests: types and bounds. Anything else is refused before it reaches a model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from isthmus.control.sampling import Mode, Penalty
from isthmus.models.generation import Generation
from isthmus.studio import limits
from isthmus.studio.map import Projection

Name = Annotated[str, Field(max_length=200)]
Count = Annotated[int, Field(ge=1, le=limits.BATCH)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Coordinate = Annotated[float, Field(ge=-limits.FAR, le=limits.FAR)]
Weight = Annotated[float, Field(ge=-100, le=100)]
Latent = Annotated[list[float], Field(max_length=100_000)]


class Body(BaseModel):
    """No conversions, no unknown keys, no NaN."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @property
    def passes(self) -> int:
        """The most decoder passes that the answer takes, for progress."""
        return 1


class Index(Body):
    """An example of the corpus."""

    index: Annotated[int, Field(ge=0)]


Input = str | Index
"""A text, a picture as a data URL, or an example of the corpus."""


class Shaping(Body):
    """How tokens are chosen."""

    sample: bool = False
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    beams: Annotated[int, Field(ge=1, le=8)] = 1
    max_new_tokens: Annotated[int, Field(ge=1, le=limits.NEW_TOKENS)] = 64
    guidance: Weight = 1.0
    against: Name | None = None
    penalty: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    penalty_mode: Mode = "transformers"
    seed: Seed = 0

    def settings(self, label: str | None = None) -> Generation:
        """The settings of a model call, under a label if there is one."""
        return Generation(
            max_new_tokens=self.max_new_tokens,
            sample=self.sample,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            beams=self.beams,
            seed=self.seed,
            label=label or None,
            guidance=self.guidance,
            against=self.against or None,
            penalty=Penalty(self.penalty, self.penalty_mode),
        )


class Decoding(Shaping):
    """How latents are decoded."""

    label: Name | None = None

    @property
    def generation(self) -> Generation:
        """The settings of a model call."""
        return self.settings(self.label)


class Decoded(Body):
    """A request that decodes."""

    decoding: Decoding = Decoding()

    @property
    def passes(self) -> int:
        """One pass per token."""
        return self.decoding.max_new_tokens


class Decode(Decoded):
    """Latents, or a place on the map."""

    z: Annotated[list[Latent], Field(min_length=1, max_length=limits.BATCH)] | None = None
    place: Annotated[list[Coordinate], Field(min_length=2, max_length=2)] | None = None
    projection: Projection = "pca"


class Encode(Decoded):
    """Inputs to encode and decode again."""

    inputs: Annotated[list[Input], Field(min_length=1, max_length=limits.BATCH)]


class Walk(Decoded):
    """Two ends, and the number of points between them or one position on the way.

    On the path ``sentences`` the number of points is that of the sentences.
    """

    a: Input
    b: Input
    steps: Annotated[int, Field(ge=0, le=limits.STEPS)] = 5
    position: Annotated[float, Field(ge=0, le=1)] | None = None
    path: Literal["slerp", "lerp", "sentences"] = "slerp"


class Exchange(Decoded):
    """Two inputs of a run with several latents."""

    a: Input
    b: Input


class Term(Body):
    """An input with its weight."""

    input: Input
    weight: Weight


class Arithmetic(Decoded):
    """A weighted sum of latents."""

    terms: Annotated[list[Term], Field(min_length=2, max_length=6)]

    @property
    def passes(self) -> int:
        """The sum, and its terms."""
        return 2 * super().passes


class Dimensions(Decoded):
    """Where to start, and how far to move in each dimension, in units of its spread."""

    input: Input | None = None
    z: Latent | None = None
    offsets: Annotated[dict[Name, Coordinate], Field(max_length=10_000)] = {}


class Neighbours(Body):
    """An input or a latent, and the number of its neighbours."""

    input: Input | None = None
    z: Latent | None = None
    count: Count = 5


class Sample(Decoded):
    """Draws from the prior, or from the aggregate posterior of the corpus."""

    count: Count = 8
    seed: Seed = 0
    source: Literal["prior", "aggregate"] = "prior"


class Generate(Shaping):
    """Texts under control codes."""

    sample: bool = True
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    code: Name | None = None
    mixture: Annotated[
        dict[Name, Annotated[float, Field(gt=0, le=1000)]], Field(max_length=20)
    ] = {}
    detail: Name = ""
    prompt: Annotated[str, Field(max_length=limits.TEXT)] = ""
    count: Annotated[int, Field(ge=1, le=limits.BATCH)] = 5

    @property
    def passes(self) -> int:
        """One pass per token."""
        return self.max_new_tokens


class Attribute(Body):
    """A text."""

    text: str


class Caption(Decoded):
    """A picture."""

    picture: str


class Draw(Decoded):
    """A text to draw a picture of."""

    text: str


class Decide(Body):
    """A decision on a candidate; an empty one revokes it."""

    id: Name
    decision: Literal["merge", "split", "keep", ""]


class Empty(Body):
    """Nothing."""
