"""Where the GPU waits in a step: the parts of the loop are marked, and some steps traced."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

import train
from benchmarks import gpu_trace
from benchmarks.gpu import Row
from benchmarks.gpu_runs import CONVNET, DEVICE, MLP, Options, run_here, size_of, speed_params, synchronize
from engine.data import Feed, planned
from engine.training import Device, LossScale, Scores, Watch

STEPS_BEFORE, STEPS = 10, 30  # the first are slower than the rest


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
        (planned, "seed_everything", "seeding"),
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
