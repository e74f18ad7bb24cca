"""What stands in the place of an encoder where texts come with their vectors: nothing to run."""

from typing import Any, final

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from isthmus.errors import IsthmusError


@strict
class GivenVectorsConfig(PreTrainedConfig):
    """The width of the vectors.

    Args:
        hidden_size: E.
    """

    model_type = "isthmus-vectors"

    hidden_size: int = 1


@final
class GivenVectors(PreTrainedModel):
    """No weights; the vectors come with the batch."""

    config_class = GivenVectorsConfig
    config: GivenVectorsConfig

    def __init__(self, config: GivenVectorsConfig) -> None:
        super().__init__(config)
        self.post_init()

    def forward(self, **batch: Any) -> None:
        """Refuse to read tokens."""
        raise IsthmusError(
            "this model reads given vectors, not tokens; give it texts that carry theirs"
        )


AutoConfig.register(GivenVectorsConfig.model_type, GivenVectorsConfig)
AutoModel.register(GivenVectorsConfig, GivenVectors)
