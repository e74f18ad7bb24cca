"""The tokenizers of the authors' code, which its checkpoints do not contain."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import BertTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from isthmus.data import tokens
from isthmus.data.tokens import SpecialIds
from isthmus.errors import IsthmusError
from isthmus.models.codec import TextCodec, make_codec
from isthmus.models.original.files import Checkpoint
from isthmus.models.original.state import Original

_FILES = {"encoder": ("vocab.txt",), "decoder": ("vocab.json", "merges.txt")}
_PRETRAINED = {"encoder": "bert-base-cased", "decoder": "gpt2"}

_ADDED = {"pad_token": "<PAD>", "bos_token": "<BOS>", "eos_token": "<EOS>"}
"""Tokens that the authors add to GPT-2's vocabulary, in order: 50257, 50258 and 50259."""

_END_OF_TEXT = "<|endoftext|>"


def codec_of(
    checkpoint: Checkpoint, original: Original, bridge: str, given: dict[str, str]
) -> TextCodec:
    """The codec of a checkpoint.

    Args:
        checkpoint: Where to look for vocabularies.
        original: Its contents.
        bridge: A memory takes one of the decoder's positions.
        given: "encoder" and "decoder" → a folder or hub name from the user, or "".

    Raises:
        IsthmusError: A tokenizer is missing, or its vocabulary size is not the checkpoint's.
    """
    encoder = _tokenizer(checkpoint, "encoder", given["encoder"])
    decoder = with_special_tokens(_tokenizer(checkpoint, "decoder", given["decoder"]))
    for part, tokenizer in (("encoder", encoder), ("decoder", decoder)):
        size = original.vocabulary_size(part)
        if len(tokenizer) != size:
            added = " with <PAD>, <BOS> and <EOS>" if part == "decoder" else ""
            raise IsthmusError(
                f"{original.name}: the {part} has {size:,} tokens, its tokenizer "
                f"{len(tokenizer):,}{added}; use --{part}-tokenizer with the one from training"
            )
    positions = original.shape("encoder.embeddings.position_embeddings.weight")[0]
    room = original.shape("decoder.transformer.wpe.weight")[0] - ("memory" in bridge)
    special = SpecialIds(decoder.bos_token_id, decoder.eos_token_id, decoder.pad_token_id)
    return make_codec(encoder, decoder, min(positions, room), special)


def _tokenizer(checkpoint: Checkpoint, part: str, given: str) -> PreTrainedTokenizerBase:
    """The tokenizer in the authors' files if they exist, else the one that the user names."""
    places = [Path(given)] if given else checkpoint.places(part)
    for place in places:
        paths = [place / name for name in _FILES[part]]
        if all(path.is_file() for path in paths):
            return _from_files(part, [str(path) for path in paths])
    if given:
        return tokens.load(given)
    raise IsthmusError(
        f"{checkpoint.root}: the {part}'s tokenizer is not with the checkpoint; put "
        f"{' and '.join(_FILES[part])} of {_PRETRAINED[part]} into {places[0]}, or give "
        f"--{part}-tokenizer a folder or a hub name"
    )


def _from_files(part: str, paths: list[str]) -> PreTrainedTokenizerBase:
    try:
        if part == "encoder":
            return BertTokenizer(models.WordPiece.read_file(*paths), do_lower_case=False)
        byte_level = Tokenizer(models.BPE.from_file(*paths))
        return PreTrainedTokenizerFast(tokenizer_object=byte_level)
    except Exception as error:  # tokenizers raises nothing more precise
        raise IsthmusError(f"{paths[0]}: not a vocabulary ({error}); download it again") from error


def with_special_tokens(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerFast:
    """A GPT-2 tokenizer as the authors use it.

    Encoding adds a leading space, so that the first word is a token like any other word, and
    decoding removes it. ``<PAD>``, ``<BOS>`` and ``<EOS>`` are added in this order.
    """
    if not isinstance(tokenizer, PreTrainedTokenizerFast) or not isinstance(
        tokenizer.backend_tokenizer.model, models.BPE
    ):
        raise IsthmusError(
            f"--decoder-tokenizer: {tokenizer.name_or_path} is not a byte-level BPE; expected "
            "GPT-2's tokenizer"
        )
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    # All at once: transformers would add missing ones in its own order.
    backend.add_special_tokens(list(_ADDED.values()))
    unknown = {"unk_token": _END_OF_TEXT} if backend.token_to_id(_END_OF_TEXT) is not None else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, **_ADDED, **unknown
    )
