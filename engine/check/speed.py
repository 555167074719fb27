"""Where the time goes, and how much memory a batch takes."""

import os
import time

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from engine.check.finding import CannotJudge, Finding, failed, passed, warned
from engine.check.network import few_steps
from engine.check.project import Project
from engine.nested import tensors_in
from engine.wording import duration

LONG = 60.0  # seconds of a run that are worth a word
KEPT = 4  # numbers kept of each parameter: itself, its gradient, two averages of Adam


def time_is_spent_on_training(project: Project) -> Finding:
    """Batches come as fast as the network takes them; if not, which param to turn."""
    step = step_seconds(project) * project.cut
    loader, fetch = project.loaders["train"], project.fetch_seconds
    seen = f"a batch takes {_in_short(fetch)} to load and {_in_short(step)} to train on"
    number = batches_in_epoch(project)
    if number is None:
        return passed(seen)
    run = number * (fetch + step) * project.params.num_epochs
    seen += f"; {project.params.num_epochs} epochs of {number} batches take about {duration(run)}"
    if run > LONG and fetch > step:
        workers = isinstance(loader, DataLoader) and loader.num_workers == 0
        advice = (
            f'"num_workers": {os.cpu_count()}' if workers else "keep what was decoded, or engine.data.TensorBatches"
        )
        return warned(seen, advice)
    return passed(seen)


def batches_in_epoch(project: Project) -> int | None:
    """How many batches are trained on before each validation; None where nobody knows, as of a stream."""
    params = project.params
    if params.steps_per_epoch is not None:
        return int(params.steps_per_epoch * params.accumulate)
    try:
        length = len(project.loaders["train"])
    except TypeError:
        return params.max_train_batches
    return min(length, params.max_train_batches or length)


def step_seconds(project: Project) -> float:
    """How long a step takes, the first one left out."""
    moments = []
    for result in few_steps(project, project.network()):
        result.loss.item()  # on a GPU: wait for it
        moments.append(time.perf_counter())
    return (moments[-1] - moments[0]) / (len(moments) - 1)


def memory_suffices(project: Project) -> Finding:
    """What weights, gradients and one batch take, and the largest batch that fits."""
    model, batch = project.network().train(), project.batches["train"][0]
    fixed = KEPT * sum(parameter.nbytes for parameter in model.parameters())
    known, kept = {parameter.data_ptr() for parameter in model.parameters()}, {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in known:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        size = project.size(project.run(model, batch))
    each = (sum(kept.values()) + sum(tensor.nbytes for tensor in tensors_in(batch))) / size
    size = round(size * project.cut)
    there = available(project)
    largest = int((0.8 * there - fixed) // max(each, 1))
    seen = f"{_bytes(fixed)} for the network, {_bytes(each * size)} for {size} examples; about {largest:,} would fit"
    if largest < size:
        return failed(f"{seen} into {_bytes(there)}", 'a smaller "batch_size", and "accumulate" batches for a step')
    return passed(seen)


def available(project: Project) -> float:
    """The memory of the device in bytes."""
    if project.device.device.type == "cuda":
        return float(torch.cuda.mem_get_info(project.device.device)[1])
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        raise CannotJudge("how much memory there is cannot be told here")
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _in_short(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds >= 1 else f"{1000 * seconds:.2g} ms"


def _bytes(number: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number > size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f} B"
