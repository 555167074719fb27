"""The loop of `train.py` beside one by hand: its steps, batches from ordinary memory, precisions."""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.gpu import Row
from benchmarks.gpu_runs import (
    CONVNET,
    DEVICE,
    MLP,
    Options,
    history,
    laid_out,
    mixed,
    run_here,
    size_of,
    speed_params,
    synchronize,
    tested,
    timed,
    training_seconds,
)
from benchmarks.gpu_task import data_loader as noise
from benchmarks.gpu_task.net import layers
from benchmarks.training_loop import make_network, split_digits

IN_MEMORY = CONVNET | {"num_images": 6_000, "side": 96, "in_memory": True, "num_epochs": 3}


class Ends:
    """The moments at which epochs ended, on the device too."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def __call__(self, *_: Any) -> None:
        """An epoch has ended."""
        synchronize()
        self.moments.append(time.perf_counter())

    def seconds(self) -> float:
        """From the end of the first epoch to that of the last: what a loop takes once it goes."""
        return self.moments[-1] - self.moments[0]


def loop(options: Options) -> Iterator[Row]:
    """`train.py` against the same loop without a feature, in turn in one process, after one run to warm up."""
    noises = noise.images(size_of(CONVNET, options)["num_images"], 32)
    images = {"train": noises, "val": noises}
    for title, params, num_epochs, make, data, is_mixed in (
        ("MLP on digits, batches of 32", MLP, 60, make_network, split_digits(), False),
        ("convolutions, batches of 256", CONVNET, 12, layers, images, True),
    ):
        params = size_of(params, options)
        num_epochs = 2 if options.tiny else num_epochs
        times: dict[str, list[tuple[float, float]]] = {"ours": [], "by hand": []}
        for repeat in range(2 if options.tiny else 4):
            folder, ours, theirs = options.scratch / f"{params['task']}_{repeat}", Ends(), Ends()
            whole = timed(run_here, folder, params | {"num_epochs": num_epochs}, on_epoch=ours)
            hand = timed(by_hand, folder, make, data, params["batch_size"], num_epochs, is_mixed, theirs)
            if repeat:
                times["ours"].append((ours.seconds(), whole))
                times["by hand"].append((theirs.seconds(), hand))
        steps = (num_epochs - 1) * -(-len(data["train"][1]) // params["batch_size"])
        medians = {
            name: [statistics.median(column) for column in zip(*some, strict=True)] for name, some in times.items()
        }
        for name, (seconds, whole) in medians.items():
            each = f"{seconds / steps * 1e6:.0f} µs a step with all of its epoch"
            yield Row(f"{title}: {name}", f"{each}; {whole:.2f} s in all")
        for what, own, hands in zip(("the loop", "all"), *medians.values(), strict=True):
            yield Row(f"{title}: {what}, ours / by hand", f"{own / hands:.2f}", "1.1" if what == "the loop" else "")


def by_hand(
    folder: Path,
    make: Callable[[], nn.Module],
    data: dict[str, Any],
    batch_size: int,
    num_epochs: int,
    is_mixed: bool,
    on_epoch: Callable[[], None],
) -> None:
    """The loop of one who knows the GPU: data on the device, nothing waited for, both checkpoints, and no more."""
    (inputs, labels), (val_inputs, val_labels) = (
        [tensor.to(DEVICE) for tensor in data[split]] for split in ("train", "val")
    )
    model = make().to(DEVICE)
    if is_mixed:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    best = -1.0
    for _ in range(num_epochs):
        model.train()
        total = torch.zeros((), device=DEVICE)
        for rows in torch.randperm(len(labels), device=DEVICE).split(batch_size):
            with mixed(is_mixed):
                loss = cross_entropy(model(laid_out(inputs[rows], is_mixed)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
        model.eval()
        hits = torch.zeros((), device=DEVICE)
        with torch.no_grad(), mixed(is_mixed):
            parts = zip(val_inputs.split(batch_size), val_labels.split(batch_size), strict=True)
            for some, wanted in parts:
                hits += (model(laid_out(some, is_mixed)).argmax(dim=1) == wanted).sum()
        accuracy = float(hits) / len(val_labels)
        content = {"state_dict": model.state_dict(), "optim_dict": optimizer.state_dict(), "loss": float(total)}
        torch.save(content, folder / "by_hand_last.pth.tar")
        if accuracy > best:
            best = accuracy
            torch.save(content, folder / "by_hand_best.pth.tar")
        on_epoch()


def transfer(options: Options) -> Iterator[Row]:
    """Batches from ordinary memory: pinned on their way, against a copy that the program waits for."""
    params = size_of(IN_MEMORY, options)
    inputs, labels = noise.images(params["num_images"], params["side"])
    for name, values in (("in memory", params), ("resident", params | {"in_memory": False})):
        rates = []
        for repeat in range(2):
            folder = options.scratch / f"{name.replace(' ', '_')}_{repeat}"
            run_here(folder, values)
            rates.append(history(folder)[-1]["examples_per_second"])
        yield Row(f"{name}: ours", f"{max(rates):.0f} images a second")
    by_hand_rate = len(labels) / min(waited_for(inputs, labels, params["batch_size"]) for _ in range(3))
    yield Row("in memory: by hand, `.to(device)`", f"{by_hand_rate:.0f} images a second")


def waited_for(inputs: torch.Tensor, labels: torch.Tensor, batch_size: int) -> float:
    """Seconds of an epoch by hand whose batches are moved as most people do."""
    model = layers().to(DEVICE, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def train_epoch() -> None:
        for rows in torch.randperm(len(labels)).split(batch_size):
            some, wanted = inputs[rows].to(DEVICE), labels[rows].to(DEVICE)
            with mixed(True):
                loss = cross_entropy(model(laid_out(some, True)), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    train_epoch()
    return timed(train_epoch)


def precisions(options: Options) -> Iterator[Row]:
    """Float16 with its GradScaler, beside bfloat16 and float32, on the convolutions; then `speed` in it."""
    for precision in ("float32", "bfloat16", "float16"):
        folder = options.scratch / precision
        run_here(folder, size_of(CONVNET, options) | {"num_epochs": 4, "precision": precision})
        yield Row(f"{precision}: convolutions", f"{history(folder)[-1]['examples_per_second']:.0f} images a second")
    if options.data is not None:
        folder = options.scratch / "speed_float16"
        run_here(folder, speed_params(options, seed=1, precision="float16"))
        _, seconds = training_seconds(folder)
        steps = json.loads((folder / "status.json").read_text())["step"]
        told = f"{tested(folder):.4f}, {steps} steps taken, {seconds:.2f} s as often as the last epoch"
        yield Row("float16: speed, test accuracy", told, "0.94")
