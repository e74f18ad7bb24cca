"""Words as a pretrained encoder knows them, at both ends of a fresh decoder.

    e_w = (m_w − m̄) B,    p(w|h) ∝ exp(h·e_w + b_w)

m_w is the encoder's mean state of the word as a text, [E]; B [E H] are the first H principal
components over the vocabulary, scaled to a mean |e_w|² of 1. The vectors are never trained, so
what training learns of a word holds for its neighbours too, even for words of no training text
that :mod:`isthmus.explore.vocabulary` adds later; b_w learns how frequent a word is. Input and
output share their vectors as in Press & Wolf 2017 (arXiv 1608.05859).
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
from isthmus.models.inspection import token_embeddings
from isthmus.models.stock import pretrained

WORDS_AT_ONCE = 256
"""Words per pass of the pretrained encoder."""


@final
class WordVectors(nn.Embedding):
    """Token embeddings [V H] that are saved with the model and never trained."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__(len(vectors), vectors.shape[1], _weight=vectors)
        del self.weight
        self.register_buffer("weight", vectors)


@final
class WordOutput(nn.Module):
    """Logits h·e_w + b_w over the vectors of the input."""

    def __init__(self, vectors: WordVectors) -> None:
        super().__init__()
        self._vectors = (vectors,)  # in a tuple: the input saves and moves them
        self.in_features = vectors.embedding_dim
        self.bias = nn.Parameter(torch.zeros(vectors.num_embeddings))

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits [... V] of hidden states [... H]."""
        return functional.linear(hidden, self._vectors[0].weight, self.bias)


def give_word_vectors(model: PreTrainedModel) -> None:
    """Put fixed vectors, zeros for now, at both ends of a fresh language model."""
    embeddings = WordVectors(torch.zeros_like(token_embeddings(model).detach()))
    model.set_input_embeddings(embeddings)
    model.set_output_embeddings(WordOutput(embeddings))


def set_word_vectors(model: PreTrainedModel, vectors: Tensor, bias: Tensor) -> None:
    """Replace the vectors [V H] and b [V] of a model that has some; V may change."""
    embeddings = model.get_input_embeddings()
    assert isinstance(embeddings, WordVectors)
    embeddings.weight, embeddings.num_embeddings = vectors, len(vectors)
    model.get_output_embeddings().bias = nn.Parameter(bias)
    if isinstance(zeros := getattr(model, "final_logits_bias", None), Tensor):  # BART
        model.final_logits_bias = zeros.new_zeros(1, len(vectors))
    model.config.vocab_size = len(vectors)


def start_word_vectors(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str
) -> None:
    """Give a fresh decoder the vectors of its vocabulary.

    The vectors of special tokens, which are not words, are drawn from N(0, 1/H), whose mean length
    is that of a word.

    Args:
        model: of the decoder, built with the output "words".
        tokenizer: word-level, from :func:`isthmus.data.tokens.train_word_level`.
        source: the pretrained encoder.

    Raises:
        IsthmusError: the decoder is wider than the vectors, or than there are words.
    """
    width = token_embeddings(model).shape[1]
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
    """m, the mean states of a pretrained encoder for words as texts, [N E]."""
    model, tokenizer = pretrained(source, "encoder")
    model.eval()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # the mask hides it
    states = []
    for first in range(0, len(words), WORDS_AT_ONCE):
        some = list(words[first : first + WORDS_AT_ONCE])
        batch = tokenizer(some, padding=True, truncation=True, return_tensors="pt")
        mask = batch["attention_mask"]
        hidden = model(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
        states.append(mean_pool(hidden, mask))
    return torch.cat(states)
