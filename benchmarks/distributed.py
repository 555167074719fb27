"""Several processes on the course's network: how much faster they are, and what DistributedDataParallel makes of it.

    python benchmarks/distributed.py [--processes 2] [--batch_size 128] [--num_epochs 4] [--repeats 3]

864 images of 64x64, resident on both sides; each process has one thread, or a GPU where there are some. `train.py` as
it is, against a loop written by hand around `DistributedDataParallel`, in turn, each under torchrun. Of each run the
examples per second of its epochs are counted but for the first, and the processor time that they take, which on a busy
machine says more; of ours also what the processes wait for one another.
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
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import train
from benchmarks.course_task.net import Net, loss_fn
from benchmarks.images import PARAMS, write_images
from engine.data import find_images, read_images
from engine.hyperparameters import Params
from engine.training import Processes, choose_device
from engine.wording import counted


class Epochs:
    """The clocks around the training of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.processor: list[float] = []

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *error: object) -> None:
        self.seconds.append(time.perf_counter() - self._began[0])
        self.processor.append(time.process_time() - self._began[1])

    def result(self, examples: int, waited: float = 0.0) -> dict[str, float]:
        """Per second and for each process, but for the first epoch; `waited` is of all of them."""
        rate, processor = examples / statistics.median(self.seconds[1:]), statistics.median(self.processor[1:])
        return {"rate": rate, "processor": processor, "waited": waited / sum(self.seconds)}


def ours(data: Path, params: dict[str, Any]) -> dict[str, float]:
    """Train with `train.py` in this process, one of several."""
    epochs, waited, finish, train_epoch = Epochs(), [0.0], Processes._finish, train.train

    def timed_finish(self: Processes, *arguments: Any) -> None:
        start = time.perf_counter()
        finish(self, *arguments)
        waited[0] += time.perf_counter() - start

    def timed_epoch(*arguments: Any) -> None:
        with epochs:
            train_epoch(*arguments)

    Processes._finish, train.train = timed_finish, timed_epoch  # type: ignore[method-assign]
    folder = data / "experiment"
    if int(os.environ["RANK"]) == 0:
        folder.mkdir()
        (folder / "params.json").write_text(json.dumps(params | {"task": "benchmarks.course_task"}))
    train.main(["--model_dir", str(folder), "--data_dir", str(data)])
    return epochs.result(EXAMPLES, waited[0])


def by_hand(data: Path, params: dict[str, Any]) -> dict[str, float]:
    """Train by a plain loop, with `DistributedDataParallel` where there are several processes."""
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(1)
    device = torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")
    folder = find_images(data, ["train"], 230)
    images = torch.as_tensor(read_images(folder, size=64, channels=3)["train"]).to(device)
    labels = torch.as_tensor(folder.splits["train"].labels, device=device)
    torch.manual_seed(230)
    model: nn.Module = Net(Params("params.json", params)).to(device)
    if count > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        model = DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=params["learning_rate"], fused=True)
    epochs = Epochs()
    for epoch in range(params["num_epochs"]):
        with epochs:
            losses = []
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(epoch))
            for rows in order.split(params["batch_size"]):
                mine = rows[rank::count].to(device)
                inputs = images[mine].float() / 255
                mirrored = torch.rand(len(mine), device=device)[:, None, None, None] < 0.5
                optimizer.zero_grad()
                loss = loss_fn(model(torch.where(mirrored, inputs.flip(3), inputs)), labels[mine])
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            torch.stack(losses).mean().item()
    if count > 1:
        dist.destroy_process_group()
    return epochs.result(EXAMPLES)


EXAMPLES = 864
SIDES = {"ours": ours, "by hand": by_hand}


def measure(side: str, count: int, params: dict[str, Any]) -> dict[str, float]:
    """One run of a side, in so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder))
        words = ["--side", side, "--data", folder, "--params", json.dumps(params)]
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(count), __file__, *words]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        return json.loads(Path(folder, "result.json").read_text())


def run_side(side: str, data: Path, params: dict[str, Any]) -> None:
    """What a process does that torchrun has started; the first leaves the result."""
    result = SIDES[side](data, params)
    if int(os.environ["RANK"]) == 0:
        (data / "result.json").write_text(json.dumps(result))


def main() -> None:
    """Print the examples per second of each side, in one process and in several, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"processes": 2, "batch_size": 128, "num_epochs": 4, "repeats": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    for name in ("side", "data", "params"):  # for the processes that it starts itself
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        run_side(options.side, Path(options.data), json.loads(options.params))
        return
    params = PARAMS | {"batch_size": options.batch_size, "num_epochs": options.num_epochs, "threads": 1}
    cases = [(side, count) for count in (1, options.processes) for side in SIDES]
    runs: dict[tuple[str, int], list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(options.repeats):
        for side, count in cases:
            runs[side, count].append(measure(side, count, params))
    rates = {case: statistics.median(run["rate"] for run in some) for case, some in runs.items()}
    for (side, count), some in runs.items():
        low, high = (bound(run["rate"] for run in some) for bound in (min, max))
        processor = statistics.median(run["processor"] for run in some)
        told = f"{rates[side, count]:7.1f} examples/s ({low:.1f} to {high:.1f})"
        print(f"{side:8} {counted(count, 'process'):12} {told}, {processor:.1f} s of processor time an epoch, each")
    several = options.processes
    waited = statistics.median(run["waited"] for run in runs["ours", several])
    print(f"ours, {several} / 1 processes      {rates['ours', several] / rates['ours', 1]:.2f} (goal 1.7 for 2)")
    print(f"by hand, {several} / 1 processes   {rates['by hand', several] / rates['by hand', 1]:.2f}")
    print(f"ours / by hand, {several} processes {rates['ours', several] / rates['by hand', several]:.2f} (goal 1)")
    print(f"of ours, {waited:.0%} is talk and waiting for one another; on {choose_device()}")


if __name__ == "__main__":
    main()
