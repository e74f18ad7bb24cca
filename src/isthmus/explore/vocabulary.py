"""Words added to a trained model, with vectors from a pretrained encoder alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from tokenizers.models import WordLevel
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from isthmus.data.corpus import TEXT
from isthmus.errors import IsthmusError
from isthmus.models.base import LatentModel
from isthmus.models.text_model import TextConfig, TextModel
from isthmus.models.words import WordVectors, set_word_vectors, word_states, words_of


@torch.no_grad()
def add_words(model: LatentModel, words: Sequence[str], source: str) -> int:
    """Let a model with word vectors read and write more words.

    In training they would be in every softmax and in no text, so p would learn to avoid them.
    Added afterwards they share what their neighbours have learned, and p(x|z) is a distribution
    over the larger vocabulary. b of a new word is the mean over the known words. An encoder of
    texts still reads them as unknown.

    Args:
        model: of texts, or of pictures with captions; changed in place.
        words: to add; those that it knows are skipped.
        source: the pretrained encoder that its vectors are from, ``model.decoder.word_vectors``.

    Returns:
        The number of new words.

    Raises:
        IsthmusError: the model has no word vectors, or not from this encoder; or a word has a
            space in it, so that no text could contain it.
    """
    for word in words:
        if word.split() != [word]:
            raise IsthmusError(f"words to add: got {word!r}, expected a word without spaces")
    text = model.member(TEXT)
    decoder = text.decoder if isinstance(text, TextModel) else None
    embeddings = None if decoder is None else decoder.stack.get_input_embeddings()
    if decoder is None or not isinstance(embeddings, WordVectors):
        raise IsthmusError(
            "words to add: this model has no word vectors that a new word could have too; train "
            "one with --model.decoder.word-vectors"
        )
    assert isinstance(text, TextModel)
    tokenizer = text.codec.decoder_tokenizer
    known, vocabulary = words_of(tokenizer), tokenizer.get_vocab()
    new = [word for word in dict.fromkeys(words) if word not in vocabulary]
    if not new:
        return 0
    states = word_states(source, [*known, *new])
    vectors = _as_known(states, embeddings.weight[-len(known) :], source)
    bias = decoder.model.get_output_embeddings().bias
    typical = bias[-len(known) :].mean().expand(len(new))
    vectors = torch.cat([embeddings.weight, vectors])
    set_word_vectors(decoder.model, vectors, torch.cat([bias, typical]))
    whole = getattr(model.config, "caption", model.config)  # it has a copy of its member's
    for config in (whole, text.config):
        assert isinstance(config, TextConfig)
        assert isinstance(config.decoder, PreTrainedConfig)
        config.decoder.vocab_size = len(vocabulary) + len(new)
    text.codec = replace(text.codec, decoder_tokenizer=_larger(tokenizer, new))
    return len(new)


def _larger(tokenizer: PreTrainedTokenizerBase, new: Sequence[str]) -> PreTrainedTokenizerBase:
    """A copy with new words after the others."""
    vocabulary = tokenizer.get_vocab()
    places = {word: len(vocabulary) + n for n, word in enumerate(new)}
    larger = copy.deepcopy(tokenizer)
    larger.backend_tokenizer.model = WordLevel(vocabulary | places, unk_token=tokenizer.unk_token)
    return larger


def _as_known(states: torch.Tensor, known: torch.Tensor, source: str) -> torch.Tensor:
    """Map new words to vectors [M H] by the affine map that gives the known words theirs.

    Args:
        states: of the encoder, for the known words and then the new ones, [N + M E].
        known: vectors of the known words, [N H].
        source: the encoder.
    """
    given = known.double()
    middle = given.mean(0)  # 0 before the first addition, no longer after it
    centred = states.to(given) - states[: len(known)].to(given).mean(0)
    # Minimum norm: the rows' span is that of the principal components, also with N < E.
    base = torch.linalg.pinv(centred[: len(known)], rtol=1e-6) @ (given - middle)
    mapped = (centred @ base + middle).to(known)
    error = (mapped[: len(known)].double() - given).square().sum(1).mean()
    if error > 1e-3:
        raise IsthmusError(
            f"words to add: {source} has other vectors for the words known (a mean squared "
            f"distance of {error:.2g}, expected 0); give the model.decoder.word_vectors of the run"
        )
    return mapped[len(known) :]
