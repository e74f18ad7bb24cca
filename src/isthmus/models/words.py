"""Words as a pretrained encoder knows them, at both ends of a fresh decoder.

    e_w = (m_w − m̄) B,    p(w|h) ∝ exp(h·e_w + b_w)

m_w is the encoder's mean state of the word as a text, [E]; B [E H] are the first H principal
components over the vocabulary, scaled to a mean |e_w|² of 1. The vectors are never trained, so
what is learned of a word holds for its neighbours as well, also for one that no training text has
and that :mod:`isthmus.explore.vocabulary` adds later; how frequent a word is, b_w learns. That
input and output share their vectors is Press & Wolf 2017 (arXiv 1608.05859).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from isthmus.data.tokens import SPECIALS
from isthmus.errors import IsthmusError
from isthmus.latent.pooling import mean_pool
from isthmus.models.stock import pretrained

WORDS_AT_ONCE = 256
"""Words that the pretrained encoder reads in one pass."""


@final
class WordVectors(nn.Embedding):
    """Token embeddings [V H] that are saved with the model and never trained."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__(*vectors.shape, _weight=vectors)
        del self.weight
        self.register_buffer("weight", vectors)


@final
class WordOutput(nn.Module):
    """Logits h·e_w + b_w over the vectors that the input has."""

    def __init__(self, vectors: WordVectors) -> None:
        super().__init__()
        self._vectors = (vectors,)  # in a tuple: they are the input's, to save and to move
        self.bias = nn.Parameter(torch.zeros(vectors.num_embeddings))

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits [... V] of hidden states [... H]."""
        return functional.linear(hidden, self._vectors[0].weight, self.bias)


def give_word_vectors(model: PreTrainedModel) -> None:
    """Put vectors that stay fixed, zeros so far, at both ends of a fresh language model."""
    embeddings = WordVectors(torch.zeros_like(model.get_input_embeddings().weight.detach()))
    model.set_input_embeddings(embeddings)
    model.set_output_embeddings(WordOutput(embeddings))


def set_word_vectors(model: PreTrainedModel, vectors: Tensor, bias: Tensor) -> None:
    """Exchange the vectors [V H] and b [V] of a model that has some, perhaps for more words."""
    embeddings = model.get_input_embeddings()
    embeddings.weight, embeddings.num_embeddings = vectors, len(vectors)
    model.get_output_embeddings().bias = nn.Parameter(bias)
    if (zeros := getattr(model, "final_logits_bias", None)) is not None:  # BART
        model.final_logits_bias = zeros.new_zeros(1, len(vectors))
    model.config.vocab_size = len(vectors)


def start_word_vectors(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str
) -> None:
    """Give a fresh decoder the vectors of its vocabulary.

    Special tokens are no words: theirs are drawn from N(0, 1/H), of a word's mean length.

    Arguments:
        model: of the decoder, made with the output "words".
        tokenizer: word-level, as :func:`isthmus.data.tokens.train_word_level` makes it.
        source: the pretrained encoder.

    Raises:
        IsthmusError: the decoder is wider than the vectors, or than there are words.
    """
    width = model.get_input_embeddings().embedding_dim
    words = words_of(tokenizer)
    states = word_states(source, words)
    most = min(states.shape[1], len(words) - 1)
    if width > most:
        raise IsthmusError(
            f"model.decoder.word_vectors: {len(words):,} words with vectors of "
            f"{states.shape[1]} values have {most} principal components, got a decoder of width "
            f"{width}; use --model.decoder.hidden-size {most} or less, a multiple of its heads"
        )
    centred = states - states.mean(0)
    _, _, components = torch.linalg.svd(centred, full_matrices=False)
    vectors = centred @ components[:width].T
    vectors = vectors / vectors.square().sum(1).mean().sqrt()
    special = torch.randn(len(SPECIALS), width) / width**0.5
    vectors = torch.cat([special, vectors])
    set_word_vectors(model, vectors, torch.zeros(len(vectors)))


def words_of(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The words of a word-level vocabulary in the order of their ids, special tokens left out."""
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=lambda word: vocabulary[word])[len(SPECIALS) :]


@torch.no_grad()
def word_states(source: str, words: Sequence[str]) -> Tensor:
    """m, the mean states that a pretrained encoder has for words as texts, [N E]."""
    model, tokenizer = pretrained(source, "encoder")
    model.eval()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # it stands under the mask
    states = []
    for first in range(0, len(words), WORDS_AT_ONCE):
        some = list(words[first : first + WORDS_AT_ONCE])
        batch = tokenizer(some, padding=True, truncation=True, return_tensors="pt")
        mask = batch["attention_mask"]
        hidden = model(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
        states.append(mean_pool(hidden, mask))
    return torch.cat(states)
