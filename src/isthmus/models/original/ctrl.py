"""The original CTRL (Keskar et al. 2019): a stock checkpoint as a LanguageModel with codes.

CTRL's codes are words of its vocabulary at the start of a text. They become the codes of the
model, with the embeddings of these words; texts may still contain the words. Texts have no start
and end tokens: a likelihood counts only the words, and generation stops at its limit.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import CTRLLMHeadModel, CTRLTokenizer

from isthmus.control.original import log_prior
from isthmus.data.tokens import SpecialIds
from isthmus.errors import IsthmusError
from isthmus.models.bridges import StartBridge
from isthmus.models.codec import make_codec
from isthmus.models.language import LanguageConfig, LanguageModel


def convert_ctrl(folder: str) -> LanguageModel:
    """Convert a folder with a CTRLLMHeadModel, its vocab.json and merges.txt.

    Like transformers, it reads weights in pytorch_model.bin as data only (``weights_only``).

    Raises:
        IsthmusError: The folder has no such model, or the vocabulary no control codes.
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
            "expected at least 2; use the vocab.json of Salesforce/ctrl"
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
    embeddings = stock.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    assert isinstance(model.bridge, StartBridge)
    assert model.labels is not None
    with torch.no_grad():
        codes = embeddings.weight[ids].T
        # CTRL has no null code; the mean of the codes is a starting point for training one.
        model.bridge.linear.weight.copy_(torch.cat([codes.mean(1, keepdim=True), codes], dim=1))
        model.labels.counts.copy_(torch.tensor([prior[name] for name in names]).exp())
    special = SpecialIds(ids[0], None, ids[0])
    length = stock.config.n_positions
    model.codec = make_codec(tokenizer, tokenizer, length, special, tuple(names))
    return model.eval()
