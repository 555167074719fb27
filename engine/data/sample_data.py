"""The data of first runs, made on the spot and written as the image files that a user would have."""

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from engine.data.image_folder import cut_by_class

SEED = 230
SHAPES, SIDE = 300, 64
DISC, SQUARE, OUTLINE = 1, 2, 255  # in a mask, where 0 is the ground; an outline is neither, and counts for nothing
PALETTE = [0, 0, 0, 200, 60, 60, 60, 60, 200, *[224] * 3 * 253]


def write_digits(folder: Path) -> None:
    """Write scikit-learn's 1,797 grey 8x8 digits to `folder/{train,val,test}/<digit>/*.png`."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    files = {f"{label}/digit_{number:04}.png": str(label) for number, label in enumerate(digits.target, start=1)}
    drawn = cut_by_class(files, {"val": 0.15, "test": 0.15}, SEED)
    splits = {file: split for split, chosen in drawn.items() for file in chosen}
    with appearing(folder, f"scikit-learn's {len(files)} handwritten digits") as temporary:
        for file, image in zip(files, images, strict=True):
            path = temporary / splits.get(file, "train") / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


def write_shapes(folder: Path) -> None:
    """Write 300 pictures of discs and squares to `folder/images/*.jpg`, and indexed masks to `folder/masks/*.png`."""
    generator = np.random.default_rng(SEED)
    with appearing(folder, f"{SHAPES} pictures of discs and squares, with masks,") as temporary:
        for part in ("images", "masks"):
            (temporary / part).mkdir()
        for number in range(SHAPES):
            image, mask = _shapes(generator)
            Image.fromarray(image).save(temporary / "images" / f"{number:03}.jpg", quality=95)
            indexed = Image.fromarray(mask).convert("P")
            indexed.putpalette(PALETTE)
            indexed.save(temporary / "masks" / f"{number:03}.png")


def _shapes(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(SIDE, SIDE, 3) pixels and their (SIDE, SIDE) classes: of one to four shapes, the later ones in front."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    coarse = generator.integers(0, 256, (4, 4, 3), np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(np.float64)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for kind in generator.integers(DISC, SQUARE, generator.integers(1, 5), endpoint=True):
        middle, reach = generator.integers(8, SIDE - 8, 2), generator.integers(6, 13)
        down, across = np.abs(rows - middle[0]), np.abs(columns - middle[1])
        distance = np.hypot(down, across) if kind == DISC else np.maximum(down, across)
        inside = distance <= reach
        image[inside] = generator.integers(0, 256, 3)
        mask[inside] = np.where(distance[inside] > reach - 1, OUTLINE, kind)
    image += generator.normal(0, 12, image.shape)
    return image.clip(0, 255).astype(np.uint8), mask


@contextlib.contextmanager
def appearing(folder: Path, what: str) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when the block ends well: it appears whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        os.rename(temporary, folder)
        logging.info("Wrote %s to %s", what, folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster, and wrote the same
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
