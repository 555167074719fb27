"""The parts of `gpu.py`, each a generator of rows: what was measured, what came out, what it is to be.

They run where there is no GPU, too, to be tried with `--tiny`; only on one do the figures mean anything.
"""

import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import Row
from benchmarks.gpu_loops import loop, precisions, transfer
from benchmarks.gpu_profile import profile_steps
from benchmarks.gpu_record import record
from benchmarks.gpu_runs import (
    DEVICE,
    ROOT,
    SEEDS,
    Options,
    command,
    experiment_params,
    history,
    run_here,
    speed_params,
    tested,
    timed,
    training_seconds,
)
from engine.data.image_file import pixels
from engine.data.image_readers import read_all, read_files
from engine.system import usable_cores


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


def fast(options: Options) -> Iterator[Row]:
    """`experiments/fast`, once."""
    folder = options.scratch / "fast"
    seconds = command("train.py", folder, experiment_params("fast", options))
    training, _ = training_seconds(folder)
    yield Row("whole command", f"{seconds:.1f} s, training {training:.1f} s")
    yield Row("test accuracy", f"{tested(folder):.4f}", "0.94")


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
