"""What our training loop costs on a small network: against a loop written by hand, and against a floor.

    python benchmarks/training_loop.py [--num_epochs 200] [--repeats 3]
    python benchmarks/training_loop.py --loaders [--num_epochs 200] [--repeats 3]

Scikit-learn's digits, MLP 64-128-128-10, Adam 1e-3, batches of 32, validation and checkpoints each epoch. All sides run
in one process, in turn; importing and the first optimizer are left out on all sides. With `--loaders`, ours has the
plain `DataLoader` over a `TensorDataset` of the loop by hand, and both are whole processes.
"""

import argparse
import json
import os
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
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

BATCH_SIZE, LEARNING_RATE = 32, 1e-3


def split_digits() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The digits as `(N, 64)` pixels and `(N,)` labels, four fifths to train on."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    pixels, labels = torch.tensor(pixels[order] / 16, dtype=torch.float32), torch.tensor(labels[order])
    cut = len(labels) * 4 // 5
    return {"train": (pixels[:cut], labels[:cut]), "val": (pixels[cut:], labels[cut:])}


def make_network() -> nn.Module:
    """The network of all sides."""
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))


def ours(folder: Path, num_epochs: int) -> None:
    """`train.py` with all that is on by default."""
    import train  # here: the loop by hand, as a process of its own, has no need of it

    params = {"task": "benchmarks.digits_task", "num_epochs": num_epochs, "batch_size": BATCH_SIZE}
    (folder / "params.json").write_text(json.dumps(params | {"learning_rate": LEARNING_RATE}))
    train.main(["--model_dir", str(folder)])


def by_hand(folder: Path, num_epochs: int) -> None:
    """The loop that one writes by hand: `TensorDataset`, `DataLoader`, `loss.item()`, `torch.save`."""
    data = split_digits()
    train_loader = DataLoader(TensorDataset(*data["train"]), batch_size=BATCH_SIZE, shuffle=True)
    val_loader = DataLoader(TensorDataset(*data["val"]), batch_size=BATCH_SIZE)
    model, loss_fn, best = make_network(), nn.CrossEntropyLoss(), 0.0
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for epoch in range(num_epochs):
        model.train()
        total = 0.0
        for inputs, labels in train_loader:
            loss = loss_fn(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        model.eval()
        hits = 0
        with torch.no_grad():
            for inputs, labels in val_loader:
                hits += (model(inputs).argmax(dim=1) == labels).sum().item()
        accuracy = hits / len(data["val"][1])
        content = {"epoch": epoch, "state_dict": model.state_dict(), "optim_dict": optimizer.state_dict()}
        torch.save(content, folder / "last.pth.tar")
        if accuracy > best:
            best = accuracy
            torch.save(content, folder / "best.pth.tar")


def floor(folder: Path, num_epochs: int) -> None:
    """No loader and no feature: the tensors indexed, fused Adam, whole-split validation, as many saves as ours."""
    data = split_digits()
    inputs, labels = data["train"]
    model, best = make_network(), 0.0
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    for epoch in range(num_epochs):
        for rows in torch.randperm(len(labels)).split(BATCH_SIZE):
            loss = nn.functional.cross_entropy(model(inputs[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            val_inputs, val_labels = data["val"]
            accuracy = (model(val_inputs).argmax(dim=1) == val_labels).float().mean().item()
        content = {"epoch": epoch, "state_dict": model.state_dict(), "optim_dict": optimizer.state_dict()}
        torch.save(content, folder / "last.pth.tar")
        if accuracy > best:
            best = accuracy
            torch.save(content, folder / "best.pth.tar")


def measure_processes(num_epochs: int, repeats: int) -> None:
    """Print what whole processes take, with the same loaders: `train.py` and the loop by hand."""
    keys = {"task": "benchmarks.loader_task", "num_epochs": num_epochs, "batch_size": BATCH_SIZE}
    sides = {"ours": ["train.py", "--model_dir"], "by hand": ["-m", "benchmarks.training_loop", "--by_hand"]}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, words in sides.items():
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "params.json").write_text(json.dumps(keys | {"learning_rate": LEARNING_RATE}))
                start, before = time.perf_counter(), os.times()
                command = [
                    sys.executable,
                    *words,
                    folder,
                    *(["--num_epochs", str(num_epochs)] if name != "ours" else []),
                ]
                subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                after = os.times()
                computed = after.children_user + after.children_system - before.children_user - before.children_system
                seconds[name].append((time.perf_counter() - start, computed))
    for index, what in enumerate(("whole processes, waited", "whole processes, computed")):
        ours, by_hand = (statistics.median(times[index] for times in seconds[name]) for name in sides)
        print(f"{what}: ours {ours:.1f} s, by hand {by_hand:.1f} s: {ours / by_hand:.2f} (goal 1.05)", file=sys.stderr)


def main() -> None:
    """Print the median seconds of each side and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_epochs", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--loaders", action="store_true", help="whole processes, both with plain loaders")
    parser.add_argument(
        "--by_hand", type=Path, metavar="FOLDER", help="the loop by hand alone, as a process of its own"
    )
    options = parser.parse_args()
    if options.by_hand:
        by_hand(options.by_hand, options.num_epochs)
        return
    if options.loaders:
        measure_processes(options.num_epochs, options.repeats)
        return
    sides = {"ours": ours, "by hand": by_hand, "floor": floor}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(-1, options.repeats):  # the first round warms up and is not counted
        for name, side in sides.items():
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                side(Path(folder), options.num_epochs if repeat >= 0 else 2)
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    for name, median in medians.items():
        print(
            f"{name:8} {median:7.2f} s   {min(seconds[name][1:]):.2f} to {max(seconds[name][1:]):.2f}", file=sys.stderr
        )
    print(f"ours / by hand {medians['ours'] / medians['by hand']:.2f} (goal 0.75)", file=sys.stderr)
    print(f"ours / floor   {medians['ours'] / medians['floor']:.2f} (goal 1.25)", file=sys.stderr)


if __name__ == "__main__":
    main()
