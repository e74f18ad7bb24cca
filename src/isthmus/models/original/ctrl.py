"""The original CTRL (Keskar et al. 2019): a stock checkpoint as a LanguageModel under codes.

Its codes are words of its vocabulary, read in the first place of a text. They become the codes of
the model, each with the embedding of its word; text may still use the word itself. The texts of
CTRL neither start nor end with a token of their own: a likelihood counts the words alone, and
generation ends at its limit.
"""

from __future__ import annotations

import torch
from transformers import CTRLLMHeadModel, CTRLTokenizer

from isthmus.control.original import log_prior
from isthmus.data.tokens import SpecialIds
from isthmus.errors import IsthmusError
from isthmus.models.codec import make_codec
from isthmus.models.language import LanguageConfig, LanguageModel


def convert_ctrl(folder: str) -> LanguageModel:
    """A folder with a CTRLLMHeadModel and its vocab.json and merges.txt, as one of our models.

    Weights in pytorch_model.bin are read as data (``weights_only``), as transformers does.

    Raises:
        IsthmusError: no such model there, or a vocabulary without control codes.
    """
    try:
        stock = CTRLLMHeadModel.from_pretrained(folder, local_files_only=True)
        tokenizer = CTRLTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise IsthmusError(
            f"{folder}: expected a folder with config.json, the weights of a CTRLLMHeadModel, "
            f"vocab.json and merges.txt ({reason})"
        ) from error
    vocabulary = tokenizer.get_vocab()
    prior = log_prior()
    names = [name for name in prior if name in vocabulary]
    if len(names) < 2:
        raise IsthmusError(
            f"{folder}: its vocabulary has {len(names)} of the {len(prior)} control codes, "
            "expected 2 at least; is vocab.json that of Salesforce/ctrl?"
        )
    ids = [vocabulary[name] for name in names]
    config = LanguageConfig(
        decoder=stock.config,
        decoder_start=ids[0],
        decoder_end=None,
        decoder_pad=ids[0],
        bridge="start",
        labels=names,
        null_code=True,
    )
    model = LanguageModel(config, stock)
    with torch.no_grad():
        codes = stock.get_input_embeddings().weight[ids].T
        # CTRL has no null code; the mean of the codes is where one can begin to be trained.
        model.bridge.linear.weight.copy_(torch.cat([codes.mean(1, keepdim=True), codes], dim=1))
        model.labels.counts.copy_(torch.tensor([prior[name] for name in names]).exp())
    special = SpecialIds(ids[0], None, ids[0])
    length = stock.config.n_positions
    model.codec = make_codec(tokenizer, tokenizer, length, special, tuple(names))
    return model.eval()
