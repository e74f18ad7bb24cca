"""The tokenizers of the authors' code, which its checkpoints do not hold."""

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
"""What the authors add to GPT-2's vocabulary, in their order: 50257, 50258 and 50259."""

_END_OF_TEXT = "<|endoftext|>"


def codec_of(
    checkpoint: Checkpoint, original: Original, bridge: str, given: dict[str, str]
) -> TextCodec:
    """The codec of a checkpoint.

    Arguments:
        checkpoint: where to look for vocabularies.
        original: what it holds.
        bridge: the memory takes one of the decoder's positions.
        given: "encoder" and "decoder" → a folder or hub name of the user's; empty for none.

    Raises:
        IsthmusError: a tokenizer is not there, or has not as many tokens as the checkpoint.
    """
    encoder = _tokenizer(checkpoint, "encoder", given["encoder"])
    decoder = with_special_tokens(_tokenizer(checkpoint, "decoder", given["decoder"]))
    for part, tokenizer in (("encoder", encoder), ("decoder", decoder)):
        size = original.vocabulary_size(part)
        if len(tokenizer) != size:
            added = ", <PAD>, <BOS> and <EOS> counted" if part == "decoder" else ""
            raise IsthmusError(
                f"{original.name}: the {part} has {size:,} tokens, its tokenizer "
                f"{len(tokenizer):,}{added}; give the one that it was trained with, by "
                f"--{part}-tokenizer"
            )
    positions = original.shape("encoder.embeddings.position_embeddings.weight")[0]
    room = original.shape("decoder.transformer.wpe.weight")[0] - ("memory" in bridge)
    special = SpecialIds(decoder.bos_token_id, decoder.eos_token_id, decoder.pad_token_id)
    return make_codec(encoder, decoder, min(positions, room), special)


def _tokenizer(checkpoint: Checkpoint, part: str, given: str) -> PreTrainedTokenizerBase:
    """From the authors' kind of files where they are, else whatever the user names."""
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
        raise IsthmusError(f"{paths[0]}: not a vocabulary ({error}); get it again") from error


def with_special_tokens(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerFast:
    """A GPT-2 tokenizer as the authors use it.

    Texts get a leading space, so that their first word is a word like the others, and lose it
    again when they are decoded; ``<PAD>``, ``<BOS>`` and ``<EOS>`` are added in this order.
    """
    if not isinstance(tokenizer, PreTrainedTokenizerFast) or not isinstance(
        tokenizer.backend_tokenizer.model, models.BPE
    ):
        raise IsthmusError(
            f"--decoder-tokenizer: {tokenizer.name_or_path} is no byte-level BPE, expected "
            "GPT-2's tokenizer"
        )
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    # All at once: transformers would add those that are missing in an order of its own.
    backend.add_special_tokens(list(_ADDED.values()))
    unknown = {"unk_token": _END_OF_TEXT} if backend.token_to_id(_END_OF_TEXT) is not None else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, **_ADDED, **unknown
    )
