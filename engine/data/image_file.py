"""One image file and what is made of it: 8 bits for each pixel, in grey or in colour, as large as it is asked for.

This module stands alone, without the engine, torch and NumPy, since `image_readers` also runs it as a program of its
own: that starts in a third of the time that it would take with NumPy and all of Pillow's plugins.
"""

import os
import pickle
import queue
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

if TYPE_CHECKING:
    import numpy as np

FORMATS = {  # by their contents, whatever a file calls itself; none of them starts a program
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx"),
    "AVIF": (".avif",),
    "QOI": (".qoi",),
    "PCX": (".pcx",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "ICO": (".ico",),
}
USUAL = ("JPEG", "PNG")  # are tried before all the others, whose plugins take a while to import
EXTENSIONS = frozenset(extension for some in FORMATS.values() for extension in some)
LONGEST_SIDE = 65_500
PHOTOMETRIC, BITS = 262, 258  # tags of TIFF; the first is 0 where large values are dark
WHITE_IS_ZERO = 0
ORIENTATION = 0x0112  # in what a camera writes beside the pixels


class Content(NamedTuple):
    """What is made of each file: an array of `shape`, by a function of READERS and its arguments."""

    shape: tuple[int, ...]
    dtype: str
    reader: str
    arguments: tuple[Any, ...] = ()


def pixels(size: int, channels: int, fit: str) -> Content:
    """The pixels of an image, (channels, size, size)."""
    return Content((channels, size, size), "uint8", "decode", (size, channels, fit))


def masks(size: int) -> Content:
    """The classes of the pixels of an image, (size, size)."""
    return Content((size, size), "uint8", "decode_mask", (size,))


def headers() -> Content:
    """Shorter side, longer side and channels (1 grey, 3 colour) of an image."""
    return Content((3,), "int32", "read_header")


def read_header(path: str) -> bytes:
    """Shorter side, longer side and channels of one image, without decoding it."""
    with _opened(path) as image:
        grey = image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")
        return struct.pack("3i", min(image.size), max(image.size), 1 if grey else 3)


def upright_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Width and height of an image, however the camera was held, without decoding it."""
    with _opened(path) as image:
        is_turned = image.getexif().get(ORIENTATION, 1) >= 5
        return (image.height, image.width) if is_turned else image.size


def decode(path: str, size: int, channels: int, fit: str = "crop") -> bytes:
    """One image file -> (size, size, channels): its first frame, upright, over white, scaled and made square.

    Of one that is not square, `crop` takes the middle, `pad` puts black bars beside it, `squeeze` scales each side.
    """
    mode = "L" if channels == 1 else "RGB"
    with _opened(path) as image:
        image.draft(mode, (2 * size, 2 * size))  # big photographs are decoded at a half, a quarter or an eighth
        ImageOps.exif_transpose(image, in_place=True)
        flat = _opaque(image)
        flat = flat if flat.mode == mode else flat.convert(mode)  # which would copy it
        if fit == "squeeze":
            square = flat.resize((size, size))
        else:
            square = (ImageOps.pad if fit == "pad" else ImageOps.fit)(flat, (size, size))
    return square.tobytes()


def decode_mask(path: str, size: int) -> bytes:
    """One mask -> (size, size): the grey numbers or indices in the file, cropped and scaled as its image is.

    None is made up between two others.
    """
    with _opened(path) as image:
        if image.mode not in ("1", "L", "P"):
            raise ValueError("a mask has one number of 8 bits for each pixel")
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode == "1":
            numbers = image.convert("L").point(lambda grey: grey // 255)
        else:
            numbers = Image.frombytes("L", image.size, image.tobytes())
    return ImageOps.fit(numbers, (size, size), Image.Resampling.NEAREST).tobytes()


def _opened(path: str | os.PathLike[str]) -> Image.Image:
    Image.preinit()
    try:
        image = Image.open(path, formats=USUAL)
    except UnidentifiedImageError:
        Image.init()
        image = Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])  # as this Pillow was built
    if max(image.size) > LONGEST_SIDE:
        raise ValueError(f"{image.size[0]} x {image.size[1]} pixels, a side may have {LONGEST_SIDE}")
    return image


def _opaque(image: Image.Image) -> Image.Image:
    """The same image in 8 bits, what is transparent in it white."""
    if image.mode == "F" or image.mode.startswith("I"):  # Pillow's own conversion clips at 255
        return Image.fromarray((_brightness(image) * 255 + 0.5).astype("uint8"))
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _brightness(image: Image.Image) -> "np.ndarray":
    """The pixels of an image of more than 8 bits as (H, W) numbers from 0, black, to 1, white.

    Raises `ValueError` where the file does not tell which number is white.
    """
    import numpy as np  # for these images alone

    tags = getattr(image, "tag_v2", {})  # of TIFF alone
    if image.mode == "I" and tags:
        raise ValueError("whole numbers of which none is said to be white; save it in 8 bits or 16")
    values = np.asarray(image).astype(np.float64)
    if image.mode != "F":
        values /= 2 ** tags.get(BITS, (16,))[0] - 1
    elif not (
        values.min() >= -1 / 510 and values.max() <= 1 + 1 / 510
    ):  # NaN is neither; half a step of 8 bits is fine
        raise ValueError(f"floating-point pixels from {values.min():g} to {values.max():g}; 0 is black and 1 is white")
    values = values.clip(0, 1)
    return 1 - values if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else values


READERS: dict[str, Callable[..., bytes]] = {f.__name__: f for f in (decode, decode_mask, read_header)}


def read_bytes(paths: Sequence[str], content: Content) -> list[bytes | str]:
    """What each file holds, or in words why it cannot be read."""
    found: list[bytes | str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # of an image of suspicious size
        for path in paths:
            try:
                found.append(READERS[content.reader](path, *content.arguments))
            except Exception as error:  # damaged bytes raise almost anything in Pillow's plugins
                found.append(_reason(error, path))
    return found


def _reason(error: Exception, path: str) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "of no format that is read here" if os.path.getsize(path) else "an empty file"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer lists of paths with what `read_bytes` finds, and end when the other side is gone, however busy."""
    content, Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = pickle.load(requests)
    waiting: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, waiting), daemon=True).start()
    while True:
        pickle.dump(read_bytes(waiting.get(), Content(*content)), replies, pickle.HIGHEST_PROTOCOL)
        replies.flush()


def _listen(requests: BinaryIO, waiting: "queue.SimpleQueue[list[str]]") -> None:
    try:
        while True:
            waiting.put(pickle.load(requests))
    except EOFError:
        os._exit(0)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a decoder prints must not get among the answers
    serve(sys.stdin.buffer, answers)
