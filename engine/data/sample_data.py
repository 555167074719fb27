"""The data of the first run: scikit-learn's handwritten digits, written as the image files that a user would have."""

import logging
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from engine.data.image_folder import cut_by_class

SEED = 230


def write_digits(folder: Path) -> None:
    """Write 1,797 grey 8x8 PNG files to `folder/{train,val,test}/<digit>/`; the folder appears whole or not at all."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    files = {f"{label}/digit_{number:04}.png": str(label) for number, label in enumerate(digits.target, start=1)}
    drawn = cut_by_class(files, {"val": 0.15, "test": 0.15}, SEED)
    splits = {file: split for split, chosen in drawn.items() for file in chosen}

    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for file, image in zip(files, images, strict=True):
            path = temporary / splits.get(file, "train") / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
        temporary.chmod(0o755)
        os.rename(temporary, folder)
        logging.info("Wrote scikit-learn's %d handwritten digits to %s", len(files), folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster, and wrote the same
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
