"""What a later epoch costs whose `DataLoader` has two worker processes, by the way in which these begin.

    python benchmarks/workers.py [--num_epochs 4]

1,200 examples of 64x64 pixels, made on the fly, in batches of 32. Beside our feed, the plain `DataLoader`, without and
with `persistent_workers`. Workers are forked on Linux, but begin from nothing on macOS and Windows and from a server
under Python 3.14: then they import torch first.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from engine.data import Feed


class Noise(Dataset[tuple[Tensor, int]]):
    """1,200 noisy images `(3, 64, 64)`, each with a label."""

    def __len__(self) -> int:
        return 1200

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.randn(3, 64, 64), index % 10


def loader_of(method: str, persistent: bool = False) -> DataLoader[Any]:
    """A loader whose two workers begin by this method."""
    options: dict[str, Any] = {"multiprocessing_context": method, "persistent_workers": persistent}
    return DataLoader(Noise(), 32, shuffle=True, num_workers=2, **options)


def seconds(passes: Iterable[Iterable[Any]]) -> float:
    """The median time of a pass, but for the first."""
    times = []
    for batches in passes:
        start = time.perf_counter()
        for _ in batches:
            pass
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    """Print a line for each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_epochs", type=int, default=4)
    num_epochs = parser.parse_args().num_epochs
    forked = 0.0
    for method in ("fork", "spawn", "forkserver"):
        feed = Feed(loader_of(method), seed=230)
        ours = seconds(feed.epoch(epoch) for epoch in range(num_epochs))
        plain, persistent = (seconds([loader_of(method, keep)] * num_epochs) for keep in (False, True))
        forked = forked or ours
        print(
            f"{method:10} ours {ours:.2f} s, {ours / forked:.1f} of forked (goal 3)   plain DataLoader {plain:.2f} s, "
            f"persistent {persistent:.2f} s"
        )


if __name__ == "__main__":
    main()
