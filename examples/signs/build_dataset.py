"""Make the data set of hand signs, 64 x 64 pixels each, from the course's photographs of 3024 x 3024.

    python examples/signs/build_dataset.py --data_dir data/SIGNS --output_dir data/64x64_SIGNS

Of `train_signs`, a fifth becomes `val_signs`, the same photographs each time. The folder appears whole or not at all.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from tqdm import tqdm

SIZE = 64
SEED = 230  # with the course's own order, so that the splits are the course's, too


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `arguments` stand in for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", default="data/SIGNS", help="folder with train_signs and test_signs")
    parser.add_argument("--output_dir", default="data/64x64_SIGNS", help="folder to make")
    return parser.parse_args(arguments)


def split_photographs(data_dir: Path) -> dict[Path, Path]:
    """Which photograph goes where: its path, and its place in the data set."""
    train, test = find_photographs(data_dir / "train_signs"), find_photographs(data_dir / "test_signs")
    random.Random(SEED).shuffle(train)
    cut = int(0.8 * len(train))
    splits = {"train_signs": train[:cut], "val_signs": train[cut:], "test_signs": test}
    return {path: Path(split, path.name) for split, paths in splits.items() for path in paths}


def find_photographs(folder: Path) -> list[Path]:
    """The photographs in a folder, in order, without what is hidden."""
    paths = sorted(folder.glob("[!.]*")) if folder.is_dir() else []
    photographs = [path for path in paths if path.suffix.lower() in (".jpg", ".jpeg")]
    if not photographs:
        raise ValueError(f"{folder}: holds no photographs; name the folder of train_signs and test_signs by --data_dir")
    return photographs


def resize_all(places: dict[Path, Path], output_dir: Path) -> None:
    """Write all photographs into `output_dir`, by several threads: Pillow decodes without holding Python's lock."""
    for split in {place.parent for place in places.values()}:
        (output_dir / split).mkdir()
    targets = [output_dir / place for place in places.values()]
    with ThreadPoolExecutor() as pool:
        for _ in tqdm(pool.map(resize, places, targets), total=len(places), unit="photo", disable=None):
            pass


def resize(source: Path, target: Path) -> None:
    """One photograph, scaled to 64 x 64 by bilinear interpolation."""
    try:
        with Image.open(source) as image:
            image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR).save(target)
    except Exception as error:  # damaged bytes raise almost anything in Pillow
        raise ValueError(f"{source}: not a readable photograph ({error}); replace or delete it") from error


def build(data_dir: Path, output_dir: Path) -> str:
    """Make `output_dir`, or see that it is there already; returns what to say. Raises `ValueError` for bad input."""
    places = split_photographs(data_dir)
    if output_dir.exists():
        there = {path.relative_to(output_dir) for path in output_dir.glob("*_signs/*")}
        if there == set(places.values()):
            return f"{output_dir} is there already; to make it anew, delete it first"
        raise ValueError(f"{output_dir}: is there already, with other files; delete it, or name another --output_dir")
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{output_dir.name}.", dir=output_dir.parent))
    try:
        resize_all(places, temporary)
        temporary.chmod(0o755)
        os.rename(temporary, output_dir)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return f"{output_dir}: {len(places)} photographs"


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the data set that the arguments name."""
    options = parse_arguments(arguments)
    try:
        print(build(Path(options.data_dir), Path(options.output_dir)))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print("Next: python train.py --model_dir examples/signs/experiments/modern")


if __name__ == "__main__":
    main()
