"""How long the table of many experiments takes, and how much memory.

    python benchmarks/synthesis.py [--repeats 3]

Folders with 20 epochs each, as runs leave them, five seeds per configuration. Ours reads params, provenance, status and
every epoch, groups the seeds and tests the differences; the course's way of 2018 reads one small file per folder, the
best scores, and prints them. Whole processes, in turn; none may import torch.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
GOALS = {100: "0.4 s", 10_000: "2.5 s, 200 MB"}
EPOCHS = 20
SEEDS = 5
OURS = """
import sys, synthesize_results as script
script.carry_out(script.parse_arguments())
assert "torch" not in sys.modules
"""
COURSE_WAY = """
import json, sys
from pathlib import Path
from tabulate import tabulate
found = sorted(Path(sys.argv[2]).rglob("metrics_val_best_weights.json"))
scores = {str(path.parent): json.loads(path.read_text()) for path in found}
names = next(iter(scores.values()))
table = tabulate([[folder, *(row[name] for name in names)] for folder, row in scores.items()], list(names), "pipe")
print(table)
Path(sys.argv[2], "course.md").write_text(table)
"""


def history(best: float) -> list[dict[str, Any]]:
    """The lines of a run that learns until it comes to its best accuracy."""
    rows = []
    for epoch in range(1, EPOCHS + 1):
        accuracy = best * (1 - 0.5**epoch) + random.gauss(0, 0.002)
        scores = {"accuracy": accuracy, "loss": 1.2345 - accuracy}
        row = {f"{split}_{name}": value for split in ("train", "val") for name, value in scores.items()}
        rows.append(
            {"epoch": epoch, **row, "learning_rate": 0.001, "seconds": 1.234 * epoch, "examples_per_second": 987.6}
        )
    return rows


def make_folders(parent: Path, count: int) -> None:
    """As many experiments, with the files that runs leave and a recorded environment of the usual size."""
    sys.path.insert(0, str(ROOT))
    from engine.experiment import package_versions
    from engine.hyperparameters import KEYS

    defaults = {key.name: key.default for key in KEYS.values()}
    for number in range(count):
        rate, seed = (number // SEEDS + 1) / 10_000, number % SEEDS
        folder = parent / f"learning_rate={rate},seed={seed}"
        folder.mkdir(parents=True)
        rows = history(0.9 + random.gauss(0, 0.01))
        best = max(rows, key=lambda row: row["val_accuracy"])
        params = {"learning_rate": rate, "seed": seed, "num_channels": 32, "dropout_rate": 0.5}
        contents = {
            "params.json": params,
            "run.json": {
                "params": {**defaults, **params},
                "device": "cpu (x86_64, 1 threads), float32; no GPU found",
                "monitor": "accuracy",
                "mode": "max",
                "parameters": 123456,
                "command": f"train.py --model_dir {folder}",
                "git": {"commit": "0" * 40, "patch": "", "untracked": {}},
                "versions": package_versions(),
                "code": {f"model/{name}.py": "0123456789abcdef" for name in ("__init__", "data_loader", "net")},
                "data": {"files": 1797, "bytes": 1234567, "sha256": "0" * 64},
            },
            "status.json": {
                "state": "finished",
                "updated": 1.5e9,
                "host": "here",
                "pid": 1,
                "epoch": EPOCHS,
                "reason": None,
            },
            "metrics_val_best_weights.json": {name: best[f"val_{name}"] for name in ("accuracy", "loss")},
        }
        for name, content in contents.items():
            (folder / name).write_text(json.dumps(content, indent=4))
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def measure(code: str, parent: Path) -> tuple[float, float]:
    """Wall seconds and peak memory in MB of a whole process."""
    start = time.perf_counter()
    words = [sys.executable, "-c", code, "--parent_dir", str(parent)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"ended with {status}"
    return time.perf_counter() - start, usage.ru_maxrss / (1024 if sys.platform == "linux" else 2**20)


def main() -> None:
    """Print the medians beside their goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = range(parser.parse_args().repeats)
    for count, goal in GOALS.items():
        with tempfile.TemporaryDirectory() as folder:
            make_folders(Path(folder), count)
            pairs = [(measure(OURS, Path(folder)), measure(COURSE_WAY, Path(folder))) for _ in repeats]
        for name, results in zip(("ours", "the course's way"), zip(*pairs, strict=True), strict=True):
            seconds, memory = (sorted(values) for values in zip(*results, strict=True))
            told = f"{statistics.median(seconds):.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f}), {memory[-1]:.0f} MB"
            print(f"{count:,} folders, {name}: {told}{f'  (goal {goal})' if name == 'ours' else ''}", flush=True)


if __name__ == "__main__":
    main()
