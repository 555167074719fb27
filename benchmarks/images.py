"""A folder of images, from start to end: our resident cache against the course's way of 2018.

    python benchmarks/images.py [--repeats 3] [--num_epochs 10]

864 colour JPEGs of 64x64, made here from scikit-learn's digits, and the course's three-convolution network. Each side
is a whole process, in turn: the course's way; ours in float32, with the same arithmetic; ours with `precision: auto`
and `channels_last`. The cache is built anew in each of our runs.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from engine.training import choose_device

PARAMS = {"batch_size": 32, "learning_rate": 1e-3, "dropout_rate": 0.8, "num_channels": 32}
FAST = {"precision": "auto", "channels_last": True}


def write_images(folder: Path) -> None:
    """The first 1,080 digits as colour photographs of a kind: 864 to train, 216 to validate."""
    digits = load_digits()
    generator = np.random.default_rng(0)
    for number, (image, label) in enumerate(zip(digits.images[:1080], digits.target, strict=False)):
        split = folder / ("train_signs" if number < 864 else "val_signs")
        split.mkdir(parents=True, exist_ok=True)
        grey = np.kron(image * (255 / 16), np.ones((8, 8)))[..., None]
        colour = grey * generator.uniform(0.5, 1, 3) + generator.normal(0, 10, (64, 64, 3))
        Image.fromarray(colour.clip(0, 255).astype(np.uint8)).save(split / f"{label}_{number:04}.jpg", quality=90)


def seconds(data: Path, params: dict[str, object], course: bool) -> float:
    """Wall seconds of one side."""
    shutil.rmtree(data / ".cache", ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "params.json").write_text(json.dumps(params))
        if course:
            command = [sys.executable, "benchmarks/course_way.py", str(data), f"{folder}/params.json", folder]
        else:
            command = [sys.executable, "train.py", "--model_dir", folder, "--data_dir", str(data)]
        start = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return time.perf_counter() - start


def main() -> None:
    """Print the median seconds of each side and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--num_epochs", type=int, default=10)
    options = parser.parse_args()
    params = PARAMS | {"num_epochs": options.num_epochs, "task": "benchmarks.course_task"}
    sides = {"course": (PARAMS | {"num_epochs": options.num_epochs}, True), "ours": (params, False)}
    sides["ours, fast"] = (params | FAST, False)
    times: dict[str, list[float]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder))
        for _ in range(options.repeats):
            for name, (side_params, course) in sides.items():
                times[name].append(seconds(Path(folder), side_params, course))
    medians = {name: statistics.median(some) for name, some in times.items()}
    for name, some in times.items():
        print(f"{name:13} {medians[name]:6.1f} s   {min(some):.1f} to {max(some):.1f}")
    print(f"ours / course's way         {medians['ours'] / medians['course']:.2f} (goal 0.8)")
    print(f"ours, fast / course's way   {medians['ours, fast'] / medians['course']:.2f} (goal 0.35, with AMX)")
    amx = "with" if torch.cpu._is_amx_tile_supported() else "without"
    print(f"this CPU: {torch.backends.cpu.get_cpu_capability()}, {amx} AMX; fast is {choose_device(**FAST)}")


if __name__ == "__main__":
    main()
