"""Images decoded for the cache: by our processes, by one thread, and by as many threads as there are cores.

    python benchmarks/decoding.py [--repeats 3]

Small images are 12,000 colour JPEGs of 32x32, as CIFAR-10 has; big ones 16 photographs of a kind, of 12 megapixels,
each read ten times, to 64x64 and to 224x224. All are made here, from a fixed seed, and in the disk's cache when read.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
from PIL import Image

from engine.data.image_file import Content, pixels
from engine.data.image_readers import read_all, read_files
from engine.system import usable_cores


def write_images(folder: Path, count: int, width: int, height: int) -> list[str]:
    """So many JPEGs of smooth noise, whose files are as large as those of photographs are."""
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = generator.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        image.save(folder / f"{width}_{number:05}.jpg", quality=90)
    return [str(folder / f"{width}_{number:05}.jpg") for number in range(count)]


def by_processes(paths: list[str], content: Content) -> None:
    """As the cache does."""
    for _ in read_all(paths, content):
        pass


def by_one_thread(paths: list[str], content: Content) -> None:
    """One image after the other."""
    read_files(paths, content)


def by_threads(paths: list[str], content: Content) -> None:
    """Each image by whichever thread is free."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        for _ in pool.map(lambda path: read_files([path], content), paths):
            pass


def seconds(way: Callable[[list[str], Content], None], paths: list[str], content: Content) -> float:
    """Wall seconds of one way."""
    start = time.perf_counter()
    way(paths, content)
    return time.perf_counter() - start


def main() -> None:
    """Print the median time an image takes in each way, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    ways = {"processes": by_processes, "one thread": by_one_thread, "threads": by_threads}
    with tempfile.TemporaryDirectory() as folder:
        small, big = write_images(Path(folder), 12_000, 32, 32), write_images(Path(folder), 16, 4000, 3000) * 10
        for title, paths, size in (("small", small, 32), ("big to 64", big, 64), ("big to 224", big, 224)):
            content = pixels(size, 3, "crop")
            times: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(options.repeats):
                for name, way in ways.items():
                    times[name].append(seconds(way, paths, content))
            medians = {name: statistics.median(some) / len(paths) for name, some in times.items()}
            told = ", ".join(f"{name} {1e6 * median:.0f} us" for name, median in medians.items())
            ratios = ", ".join(f"{medians['processes'] / medians[name]:.2f} of {name}" for name in [*ways][1:])
            print(f"{title:10} {told}; processes take {ratios}")
    print(f"on {usable_cores()} cores; goals: small 0.56 of one thread on 2 cores, big 1.0 of threads")


if __name__ == "__main__":
    main()
