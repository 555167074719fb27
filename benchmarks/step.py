"""Where the time of a training step goes, on a small network and on images.

    python benchmarks/step.py [--num_epochs 20]

`train.py` as it is, its parts under a clock: an MLP on scikit-learn's digits, and the course's three-convolution
network on 864 images of 64x64. One thread, and its processor time, so that what else the machine does shows little.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch

import train
from benchmarks.images import PARAMS, write_images
from engine.data import Feed, planned
from engine.training import Device, LossScale, Scores, Watch

LOOP = "bar, loop, and what lies between"
MLP = {"task": "benchmarks.digits_task", "batch_size": 32, "learning_rate": 1e-3}
IMAGES = PARAMS | {"task": "benchmarks.course_task"}


class Clock:
    """Charges each moment to the innermost part that is under way."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._under_way: list[str] = []
        self._since = 0.0

    def switch(self, part: str | None) -> None:
        """Enter a part, or leave the innermost one."""
        now = time.thread_time()
        if self._under_way:
            self.spent[self._under_way[-1]] += now - self._since
        self._since = now
        if part is None:
            self._under_way.pop()
        else:
            self.calls[part] += 1
            self._under_way.append(part)

    def put_on(self, holder: Any, name: str, part: str) -> None:
        """Time a function or method from now on."""
        function = getattr(holder, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            self.switch(part)
            try:
                return function(*arguments, **options)
            finally:
                self.switch(None)

        setattr(holder, name, timed)

    def put_on_batches(self, function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """The same generator, timed from one batch to the next."""

        def timed(*arguments: Any, **options: Any) -> Iterator[Any]:
            batches = function(*arguments, **options)
            while True:
                self.switch("feed")
                try:
                    batch = next(batches)
                except StopIteration:
                    return
                finally:
                    self.switch(None)
                yield batch

        return timed

    def clear(self) -> None:
        """Forget what was spent so far."""
        self.spent.clear()
        self.calls.clear()


def wired() -> Clock:
    """A clock on each part of the loop of `train.py`."""
    clock = Clock()
    clock.put_on(train, "train", LOOP)
    Feed.epoch = clock.put_on_batches(Feed.epoch)  # type: ignore[method-assign]
    clock.put_on(planned, "seed_everything", "seeding")
    clock.put_on(Device, "move", "feed")
    clock.put_on(train, "forward", "forward")
    clock.put_on(torch.Tensor, "backward", "backward")
    clock.put_on(torch.optim.Optimizer, "zero_grad", "optimizer")
    clock.put_on(LossScale, "step", "optimizer")
    clock.put_on(Scores, "add", "scores")
    clock.put_on(Watch, "after_step", "watch")
    return clock


def measure(clock: Clock, title: str, params: dict[str, Any], data: str, num_epochs: int) -> None:
    """Train, and print what a step spends on each part; the first epoch warms up."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "params.json").write_text(json.dumps(params | {"num_epochs": num_epochs, "threads": 1}))
        arguments = ["--model_dir", folder, "--data_dir", data]
        train.main(arguments, on_epoch=lambda epoch, scores: clock.clear() if epoch == 1 else None)
    steps, total = clock.calls["backward"], sum(clock.spent.values())
    print(f"{title}: {total / steps * 1e6:.0f} µs a step, over {steps} steps", file=sys.stderr)
    for part, seconds in clock.spent.most_common():
        print(f"  {part:32} {seconds / steps * 1e6:7.1f} µs {seconds / total:6.1%}", file=sys.stderr)
    clock.clear()


def main() -> None:
    """Print a table for each of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_epochs", type=int, default=20)
    num_epochs = parser.parse_args().num_epochs
    clock = wired()
    measure(clock, "digits, MLP", MLP, "none", num_epochs * 5)
    with tempfile.TemporaryDirectory() as data:
        write_images(Path(data))
        measure(clock, "images, three convolutions", IMAGES, data, max(2, num_epochs // 5))


if __name__ == "__main__":
    main()
