"""The parts of `gpu.py`, each a generator of rows: what was measured, what came out, what it is to be.

They run where there is no GPU, too, to be tried with `--tiny`; only on one do the figures mean anything.
"""

import contextlib
import itertools
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile, record_function

import evaluate
import train
from benchmarks import gpu_trace
from benchmarks.gpu import Row
from benchmarks.gpu_task import data_loader as noise
from benchmarks.gpu_task.net import layers
from benchmarks.training_loop import make_network, split_digits
from engine.data import Feed, find_images, passes, read_images
from engine.data.image_file import pixels, read_files
from engine.data.image_readers import read_all
from engine.system import usable_cores
from engine.training import Device, LossScale, Scores, Watch

ROOT = Path(__file__).resolve().parent.parent
CIFAR10 = ROOT / "examples" / "cifar10" / "experiments"
SEEDS = (1, 2, 3, 4, 5)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
STEPS_BEFORE, STEPS = 10, 30  # of the profile


@dataclass(frozen=True)
class Options:
    """What a part is given."""

    scratch: Path
    data: Path | None = None  # with train/<class>/*.jpg and test/<class>/*.jpg
    record: Path | None = None  # the folder of airbench94_muon.py
    tiny: bool = False

    @property
    def photographs(self) -> Path:
        """The data, where they are needed."""
        if self.data is None:
            raise ValueError("needs --data")
        return self.data


def machine(options: Options) -> Iterator[Row]:
    """What it all runs on."""
    yield Row("cores", f"{usable_cores()} of a {platform.machine()}, Python {platform.python_version()}")
    yield Row("torch", f"{torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
    if DEVICE == "cpu":
        yield Row("GPU", "none")
        return
    properties = torch.cuda.get_device_properties(0)
    yield Row("GPU", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    query = ["nvidia-smi", "--query-gpu=driver_version,power.limit,clocks.max.sm", "--format=csv,noheader"]
    yield Row("driver, power limit, clock", subprocess.run(query, capture_output=True, text=True).stdout.strip())


# The loop, ours and by hand

MLP = {"task": "benchmarks.digits_task", "batch_size": 32, "learning_rate": 1e-3}
CONVNET = {
    "task": "benchmarks.gpu_task", "num_images": 20_000, "side": 32, "in_memory": False, "batch_size": 256,
    "learning_rate": 1e-3, "precision": "auto", "channels_last": True,
}  # fmt: skip


def loop(options: Options) -> Iterator[Row]:
    """`train.py` against the same loop without a feature, in turn in one process, after one run to warm up."""
    digits = split_digits()
    inputs, labels = noise.images(size_of(CONVNET, options)["num_images"], 32)
    sides = (
        ("MLP on digits, batches of 32", MLP, 60, make_network, digits, False),
        (
            "convolutions, batches of 256",
            CONVNET,
            10,
            layers,
            {"train": (inputs, labels), "val": (inputs, labels)},
            True,
        ),
    )
    for title, params, num_epochs, make, data, is_mixed in sides:
        params = size_of(params, options)
        num_epochs = 2 if options.tiny else num_epochs
        times: dict[str, list[float]] = {"ours": [], "by hand": []}
        for repeat in range(2 if options.tiny else 4):
            folder = options.scratch / f"{params['task']}_{repeat}"
            ours = timed(run_here, folder, params | {"num_epochs": num_epochs})
            theirs = timed(by_hand, folder, make, data, params["batch_size"], num_epochs, is_mixed)
            if repeat:
                times["ours"].append(ours)
                times["by hand"].append(theirs)
        steps = num_epochs * -(-len(data["train"][1]) // params["batch_size"])
        medians = {name: statistics.median(some) for name, some in times.items()}
        for name, seconds in medians.items():
            yield Row(f"{title}: {name}", f"{seconds:.2f} s, {seconds / steps * 1e6:.0f} µs a step with all around it")
        yield Row(f"{title}: ours / by hand", f"{medians['ours'] / medians['by hand']:.2f}", "1.1")


def by_hand(
    folder: Path, make: Callable[[], nn.Module], data: dict[str, Any], batch_size: int, num_epochs: int, is_mixed: bool
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


def mixed(is_mixed: bool) -> contextlib.AbstractContextManager[Any]:
    """The precision that `auto` is on a GPU of today."""
    return torch.autocast(DEVICE, torch.bfloat16) if is_mixed else contextlib.nullcontext()


def laid_out(images: torch.Tensor, is_mixed: bool) -> torch.Tensor:
    """The memory layout of `channels_last`, where that is asked for."""
    return images.to(memory_format=torch.channels_last) if is_mixed else images


def timed(function: Callable[..., Any], *arguments: Any) -> float:
    """Seconds until all of it is done, on the device too."""
    synchronize()
    start = time.perf_counter()
    function(*arguments)
    synchronize()
    return time.perf_counter() - start


def synchronize() -> None:
    """Wait for the device."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def run_here(folder: Path, params: dict[str, Any], **hooks: Any) -> dict[str, Any]:
    """`train.py` in this process, in a new folder; its best scores."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps(params))
    return train.main(["--model_dir", str(folder)], **hooks)


def size_of(params: dict[str, Any], options: Options) -> dict[str, Any]:
    """The params, much smaller for a try."""
    return params | ({"num_images": 64, "batch_size": 16} if options.tiny and "num_images" in params else {})


# The profile


def profile_steps(options: Options) -> Iterator[Row]:
    """Where the GPU waits: some steps of three networks under PyTorch's profiler."""
    mark_parts()
    kinds: list[tuple[str, dict[str, Any]]] = [("MLP", MLP), ("convolutions", size_of(CONVNET, options))]
    if options.data is not None:
        kinds.append(("speed", speed_params(options, seed=1)))
    for name, params in kinds:
        path = options.scratch / f"trace_{name}.json"
        with Tracing(path, 1 if options.tiny else STEPS_BEFORE, 2 if options.tiny else STEPS) as tracing:
            run_here(options.scratch / f"profiled_{name}", params | {"num_epochs": 1 if name != "MLP" else 2})
        if tracing.steps:
            yield from profile_rows(name, gpu_trace.read_trace(path), tracing.steps)


def profile_rows(name: str, told: gpu_trace.Profile, steps: int) -> Iterator[Row]:
    """A profile as rows."""
    yield Row(
        f"{name}: a step",
        f"{told.microseconds / steps:.0f} µs, GPU at work {told.busy / told.microseconds:.0%}, "
        f"{told.kernels / steps:.0f} kernels",
    )
    for part, waited in told.waited.most_common():
        if waited / steps >= 1:
            computed = told.computed[part] / steps
            yield Row(f"{name}: GPU waits in {part}", f"{waited / steps:.0f} µs a step (CPU {computed:.0f} µs)")
    for kernel, spent in told.longest:
        yield Row(f"{name}: kernel {kernel[:60]}", f"{spent / steps:.0f} µs a step")


def mark_parts() -> None:
    """Have each part of the loop of `train.py` mark where it begins and ends."""
    for holder, name, part in (
        (passes, "seed_everything", "seeding"),
        (Device, "move", "move"),
        (train, "forward", "forward"),
        (torch.Tensor, "backward", "backward"),
        (torch.optim.Optimizer, "zero_grad", "zero_grad"),
        (LossScale, "step", "optimizer"),
        (Scores, "add", "scores"),
        (train.State, "update_average", "average"),
        (Watch, "after_step", "watch"),
        (Watch, "show", "bar"),
    ):
        setattr(holder, name, marked(getattr(holder, name), part))
    Feed.epoch = marked_batches(Feed.epoch)  # type: ignore[method-assign]


def marked(function: Callable[..., Any], part: str) -> Callable[..., Any]:
    """The function, marked as a part."""

    def run(*arguments: Any, **options: Any) -> Any:
        with record_function(gpu_trace.MARK + part):
            return function(*arguments, **options)

    return run


def marked_batches(function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """The generator, marked from one batch to the next."""

    def run(*arguments: Any, **options: Any) -> Iterator[Any]:
        batches = function(*arguments, **options)
        while True:
            with record_function(gpu_trace.MARK + "feed"):
                try:
                    batch = next(batches)
                except StopIteration:
                    return
            yield batch

    return run


class Tracing:
    """Profiles some steps of a run that is started within, after the first ones, and leaves the trace in a file."""

    def __init__(self, path: Path, before: int, most: int) -> None:
        self.path, self.before, self.most = path, before, most
        self.seen = self.steps = 0
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if DEVICE == "cuda" else [])]
        self.profiler = profile(activities=activities)

    def __enter__(self) -> "Tracing":
        self.after_step = Watch.after_step

        def watched(watch: Watch) -> None:
            self.after_step(watch)
            self.seen += 1
            if self.seen == self.before:
                synchronize()
                self.profiler.start()
            elif self.seen == self.before + self.most:
                self.stop(self.most)

        Watch.after_step = watched  # type: ignore[method-assign]
        return self

    def stop(self, steps: int) -> None:
        """End the trace after so many steps."""
        synchronize()
        self.profiler.stop()
        self.profiler.export_chrome_trace(str(self.path))
        self.steps = steps

    def __exit__(self, *_: object) -> None:
        Watch.after_step = self.after_step  # type: ignore[method-assign]
        if self.seen > self.before and not self.steps:
            self.stop(self.seen - self.before)


# Decoding


def decode(options: Options) -> Iterator[Row]:
    """All images of CIFAR-10, decoded as the cache does when it is cold; a tenth of them by one thread."""
    paths = [str(path) for path in sorted(options.photographs.rglob("*.jpg"))]
    content = pixels(32, 3, "crop")
    some = paths[:: 1 if options.tiny else 10]
    read_files(some, content)  # from the disk, once
    alone = timed(read_files, some, content) / len(some)
    together = timed(deque, read_all(paths, content), 0)
    yield Row("one thread", f"{alone * 1e6:.0f} µs an image")
    yield Row(f"{usable_cores()} cores", f"{len(paths)} images in {together:.2f} s", "60,000 in 6 s on 16")
    yield Row("cores / one thread, an image", f"{together / len(paths) / alone:.2f}")


# Experiments


def experiment_params(name: str, options: Options, **changes: Any) -> dict[str, Any]:
    """The params of an experiment of CIFAR-10, with the data that were given."""
    params = json.loads((CIFAR10 / name / "params.json").read_text())
    small = {"num_channels": 4, "compile": False, "max_train_batches": 3, "batch_size": 20, "num_epochs": 1}
    return params | {"data_dir": str(options.photographs.resolve())} | (small if options.tiny else {}) | changes


def speed_params(options: Options, **changes: Any) -> dict[str, Any]:
    """Those of `speed`."""
    return experiment_params("speed", options, **changes)


def command(script: str, folder: Path, params: dict[str, Any] | None = None) -> float:
    """Seconds of a whole command. Raises if it fails."""
    if params is not None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "params.json").write_text(json.dumps(params))
    start = time.perf_counter()
    subprocess.run([sys.executable, script, "--model_dir", str(folder)], cwd=ROOT, check=True, stdout=sys.stderr)
    return time.perf_counter() - start


def history(folder: Path) -> list[dict[str, Any]]:
    """A line for each epoch."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def training_seconds(folder: Path) -> tuple[float, float]:
    """What all epochs took to train, validation left out; and so many times the last one, which compiles nothing."""
    status, rows = json.loads((folder / "status.json").read_text()), history(folder)
    examples = json.loads((folder / "run.json").read_text())["params"]["batch_size"] * status["step"] / len(rows)
    times = [examples / row["examples_per_second"] for row in rows]
    return sum(times), len(times) * times[-1]


def tested(folder: Path) -> float:
    """The accuracy on test of the best epoch."""
    return float(evaluate.main(["--model_dir", str(folder)])["accuracy"])


def speed(options: Options) -> Iterator[Row]:
    """`experiments/speed`: the whole command, with and without what it finds in caches, then seeds in one process."""
    for state in ("cold", "warm"):
        folder = options.scratch / f"speed_{state}"
        seconds = command("train.py", folder, speed_params(options, seed=1))
        row = history(folder)[-1]
        yield Row(f"whole command, {state}", f"{seconds:.1f} s, of which {row['seconds']:.1f} s from the first step on")
    yield from over_seeds("speed", options, {})


def averaging(options: Options) -> Iterator[Row]:
    """The same without averaged weights."""
    yield from over_seeds("speed without averaged weights", options, {"ema_decay": None})


def over_seeds(title: str, options: Options, changes: dict[str, Any]) -> Iterator[Row]:
    """Training seconds and test accuracy of `speed` over the seeds, in one process that has compiled it before."""
    run_here(options.scratch / "warm_up", speed_params(options, **changes, num_epochs=1, max_train_batches=3))
    times, accuracies = [], []
    for seed in SEEDS[: 2 if options.tiny else len(SEEDS)]:
        folder = options.scratch / f"{title.replace(' ', '_')}_{seed}"
        run_here(folder, speed_params(options, seed=seed, **changes))
        times.append(training_seconds(folder))
        accuracies.append(tested(folder))
    told = f"{statistics.mean(accuracies):.4f} ± {statistics.stdev(accuracies):.4f}"
    yield Row(f"{title}: test accuracy", f"{told} ({', '.join(f'{one:.4f}' for one in accuracies)})", "0.94")
    for name, some in zip(("training", "training, as often as the last epoch"), zip(*times, strict=True), strict=True):
        yield Row(f"{title}: {name}", f"{statistics.median(some):.2f} s ({', '.join(f'{one:.2f}' for one in some)})")


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


def fast(options: Options) -> Iterator[Row]:
    """`experiments/fast`, once."""
    folder = options.scratch / "fast"
    seconds = command("train.py", folder, experiment_params("fast", options))
    training, _ = training_seconds(folder)
    yield Row("whole command", f"{seconds:.1f} s, training {training:.1f} s")
    yield Row("test accuracy", f"{tested(folder):.4f}", "0.94")


# Memory and precision

IN_MEMORY = CONVNET | {"num_images": 6_000, "side": 96, "in_memory": True, "num_epochs": 3}


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


def tests(options: Options) -> Iterator[Row]:
    """`python -m pytest -m gpu`."""
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--durations=5", "-m", "gpu", "-p", "no:cacheprovider"]
    chosen = ["tests/test_gpu.py", "tests/training/test_device.py"]
    environment = os.environ | {"TMPDIR": str(options.scratch)}
    done = subprocess.run([*command, *chosen], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)
    print(done.stdout)
    lines = done.stdout.strip().splitlines()
    yield Row("pytest -m gpu", lines[-1] if lines else f"nothing, and ended with {done.returncode}")
    for line in itertools.islice((line for line in lines if re.match("FAILED|ERROR", line)), 20):
        yield Row("failed", line[:200])


RUN: dict[str, Callable[[Options], Iterator[Row]]] = {  # by the names that `gpu.py` has for them
    "machine": machine,
    "speed": speed,
    "record": record,
    "loop": loop,
    "profile": profile_steps,
    "decode": decode,
    "fast": fast,
    "transfer": transfer,
    "precisions": precisions,
    "averaging": averaging,
    "tests": tests,
}


def main(words: Sequence[str]) -> None:
    """Run a part in this process: `name options.json rows.jsonl`; each row is there as soon as it is measured."""
    name, given, rows = words
    values = json.loads(given)
    paths = {key: values[key] and Path(values[key]) for key in ("scratch", "data", "record")}
    with open(rows, "a", encoding="utf-8") as file:
        for row in RUN[name](Options(**paths, tiny=values["tiny"])):
            print(json.dumps(row), file=file, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
