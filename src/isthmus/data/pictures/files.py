"""One picture file, read to 8-bit values, grey or RGB, whatever form it is stored in."""

import warnings
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from isthmus.errors import IsthmusError

Picture: TypeAlias = NDArray[np.uint8]
"""[C H W] with C = 1 (grey) or 3 (RGB)."""

_GREY = {"1", "L"}
_SIXTEEN_BITS = {"I", "I;16", "I;16B", "I;16L", "I;16N"}
_DEPTH_OF_PNG = 24
"""Where a PNG file keeps its bits a value (PNG specification, 11.2.2)."""


class Read(NamedTuple):
    """A picture and what had to be done to it."""

    picture: Picture
    conversion: str
    """Empty where nothing had to be done."""


def read_file(path: Path) -> Read:
    """Read a picture file.

    16 bits a value become 8; a palette becomes its colours; transparency is laid on white; CMYK
    and other colour spaces become RGB; a photograph is turned as its camera says.

    Raises:
        IsthmusError: one line without the file's name: not a picture, or a damaged one.
    """
    try:
        with path.open("rb") as file:
            return read_open(file)
    except OSError as error:
        raise IsthmusError(f"cannot be read ({error.strerror or error})") from None


def read_open(file: BinaryIO, forms: tuple[str, ...] | None = None, pixels: int = 0) -> Read:
    """As :func:`read_file`, of an open file or of bytes in memory.

    Args:
        file: A file that supports seeking.
        forms: Pillow's names of the formats to read; all that it knows if absent.
        pixels: The largest picture to unpack; 0 leaves the limit to Pillow.
    """
    try:
        with warnings.catch_warnings():
            # Of a damaged file the picture counts, or the error.
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=forms) as image:
                if 0 < pixels < image.width * image.height:
                    raise IsthmusError(
                        f"{image.width:,}×{image.height:,} pixels, expected {pixels:,} at most; "
                        "make it smaller"
                    )
                image.load()
                pages = getattr(image, "n_frames", 1)
                sixteen_bits = _sixteen_bits(file, image)
                read = _convert(ImageOps.exif_transpose(image), sixteen_bits)
        first = f"the first of {pages} pages or frames" if pages > 1 else ""
        return Read(read.picture, ", ".join(filter(None, (read.conversion, first))))
    except UnidentifiedImageError:
        raise IsthmusError("not a picture, expected PNG, JPEG or another common form") from None
    except IsthmusError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise IsthmusError("too many pixels to unpack; make it smaller") from None
    except Exception as error:  # decoders raise dozens of kinds, even SyntaxError
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise IsthmusError(f"damaged ({reason}), expected a whole picture") from None


def _sixteen_bits(file: BinaryIO, image: Image.Image) -> bool:
    """Whether the file has 16 bits a value; of colours Pillow gives the upper 8 at once."""
    if image.mode in _SIXTEEN_BITS:
        return True
    if image.format != "PNG":
        return False
    file.seek(_DEPTH_OF_PNG)
    return file.read(1) == b"\x10"


def _convert(image: Image.Image, sixteen_bits: bool) -> Read:
    done = ["16 bits a value brought to 8"] if sixteen_bits else []
    if image.mode in _SIXTEEN_BITS:
        image = _eight_bits(image)
    if image.mode in ("P", "PA"):
        done.append("palette replaced by its colours")
        image = _without_palette(image)
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        done.append("transparency laid on white")
        image = _on_white(image)
    if image.mode == "F":
        raise IsthmusError("floating-point values, expected 8 or 16 bits a value")
    if image.mode not in _GREY | {"RGB"}:
        done.append(f"{image.mode} turned into RGB")
        image = image.convert("RGB")
    if image.mode == "1":
        image = image.convert("L")
    values = np.asarray(image, dtype=np.uint8)
    picture = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    return Read(np.ascontiguousarray(picture), ", ".join(done))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits to 8, nearest level: 65535 = 257 · 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise IsthmusError(
            f"values from {values.min()} to {values.max()}, expected 8 or 16 bits a value"
        )
    return Image.fromarray(np.rint(values / 257).astype(np.uint8))


def _without_palette(image: Image.Image) -> Image.Image:
    """The colours; grey where all of them are."""
    alpha = image.mode == "PA" or "transparency" in image.info
    plain = image.convert("RGBA" if alpha else "RGB")
    values = np.asarray(plain)
    if (values[..., :1] == values[..., 1:3]).all():
        return plain.convert("LA" if alpha else "L")
    return plain


def _on_white(image: Image.Image) -> Image.Image:
    grey = image.mode in {"LA", "La", "L", "1"}
    laid = image.convert("RGBA")
    white = Image.new("RGBA", laid.size, (255, 255, 255, 255))
    flat = Image.alpha_composite(white, laid).convert("RGB")
    # Not by convert("L"): its rounded weights would change a grey by one level.
    return flat.getchannel(0) if grey else flat


def with_channels(picture: Picture, channels: int) -> Picture:
    """Grey as RGB, exactly; RGB as grey by its luma, 0.299 R + 0.587 G + 0.114 B (BT.601)."""
    if len(picture) == channels:
        return picture
    if channels == 3:
        return np.repeat(picture, 3, axis=0)
    luma = np.tensordot((0.299, 0.587, 0.114), picture.astype(np.float64), axes=1)
    return np.rint(luma).astype(np.uint8)[None]


def resized(picture: Picture, size: tuple[int, int]) -> Picture:
    """Stretched to (height, width) by Lanczos' filter."""
    planes = [Image.fromarray(plane) for plane in picture]
    height, width = size
    filtered = [plane.resize((width, height), Image.Resampling.LANCZOS) for plane in planes]
    return np.stack([np.asarray(plane, dtype=np.uint8) for plane in filtered])


def padded(picture: Picture, size: tuple[int, int]) -> Picture:
    """In the middle of (height, width), shrunk to fit if need be; around it the corner's colour.

    The corner's is what a drawing's paper has, black or white.
    """
    height, width = size
    scale = min(1.0, height / picture.shape[1], width / picture.shape[2])
    if scale < 1:
        inner = tuple(max(1, round(side * scale)) for side in picture.shape[1:])
        picture = resized(picture, (inner[0], inner[1]))
    whole = np.empty((len(picture), height, width), dtype=np.uint8)
    whole[:] = picture[:, :1, :1]
    top, left = (height - picture.shape[1]) // 2, (width - picture.shape[2]) // 2
    whole[:, top : top + picture.shape[1], left : left + picture.shape[2]] = picture
    return whole
