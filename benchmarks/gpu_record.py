"""The record of CIFAR-10 beside ours: its own script on the same images."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu import Row
from benchmarks.gpu_runs import DEVICE, SEEDS, Options
from engine.data import find_images, read_images


def record(options: Options) -> Iterator[Row]:
    """The record's own script on the same images: its times and scores, and its whole command with one run."""
    if options.record is None or DEVICE == "cpu":
        yield Row("the record's script", "needs --record and a GPU")
        return
    folder = options.scratch / "record"
    write_for_record(options, folder / "cifar10")
    source = (options.record / "airbench94_muon.py").read_text()
    try:
        printed, cold = run_record(folder, source, len(SEEDS))
    except subprocess.CalledProcessError:
        yield Row("as it is", "failed; compiled in the default mode instead")
        source = source.replace('mode="max-autotune"', "")
        printed, cold = run_record(folder, source, len(SEEDS))
    accuracies, times = scores_of_record(printed)
    told = f"{statistics.mean(accuracies):.4f} ± {statistics.stdev(accuracies):.4f}"
    yield Row("test accuracy", f"{told} ({', '.join(f'{one:.4f}' for one in accuracies)})")
    yield Row("its training", f"{statistics.median(times):.2f} s ({', '.join(f'{one:.2f}' for one in times)})")
    yield Row(f"whole command, cold, {len(SEEDS)} runs and a warm-up", f"{cold:.1f} s")
    _, warm = run_record(folder, source, 1)
    yield Row("whole command, warm, a run and its warm-up", f"{warm:.1f} s")


def run_record(folder: Path, source: str, runs: int) -> tuple[str, float]:
    """What the script prints over so many runs, and the seconds it takes. Raises if it fails."""
    (folder / "run.py").write_text(source.replace("range(200)", f"range({runs})"))
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "run.py"], cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout, time.perf_counter() - start


def write_for_record(options: Options, folder: Path) -> None:
    """The images as that script has them: `train.pt` and `test.pt`, in no order of classes."""
    folder.mkdir(parents=True, exist_ok=True)
    found = find_images(options.photographs, ["train", "test"], seed=0)
    for split, images in read_images(found, 32, channels=3).items():
        order = np.random.default_rng(0).permutation(len(images))
        content = {
            "images": torch.from_numpy(np.ascontiguousarray(images[order].transpose(0, 2, 3, 1))),
            "labels": torch.as_tensor(found.splits[split].labels)[order],
            "classes": found.classes,
        }
        torch.save(content, folder / f"{split}.pt")


def scores_of_record(printed: str) -> tuple[list[float], list[float]]:
    """Accuracies and seconds of each run in the table that it prints; the first is its warm-up on random labels."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines()]
    last = [row for row in cells if len(row) == 6 and row[1] == "eval"][1:]
    return [float(row[4]) for row in last], [float(row[5]) for row in last]
