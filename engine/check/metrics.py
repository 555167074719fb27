"""Whether the mean of a metric over batches is its value over the split."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.check.finding import CannotJudge, Finding, failed, passed, warned
from engine.check.network import few_steps
from engine.check.project import Project, first_line, take
from engine.nested import map_tensors, tensors_in
from engine.randomness import seed_everything
from engine.training import to_numpy

CHUNKS = 4  # at the least, that the split is cut into


def metrics_are_means(project: Project) -> Finding:
    """Each function metric is the same over the split and as the mean over batches, or returns (total, count)."""
    functions = {
        name: metric
        for name, metric in project.task.metrics(project.params).items()
        if name != "loss" and not hasattr(metric, "update")
    }
    if not functions:
        raise CannotJudge("there are no metrics that are functions")
    for spread in (0.0, 1.0):  # as the network is now, and with guesses that differ from example to example
        outputs, labels, number = val_outputs(project, spread)
        size = max(1, min(project.params.batch_size, number // CHUNKS))
        for name, metric in functions.items():
            if finding := _judge(name, metric, outputs, labels, number, size):
                return finding
    return passed(", ".join(functions))


def val_outputs(project: Project, spread: float) -> tuple[Any, Any, int]:
    """The outputs and labels of val as one batch, and its size; with noise on the outputs, so large as they spread."""
    model = project.network()
    for _ in few_steps(project, model):
        pass
    results = list(project.results(model, "val"))
    outputs, labels = (_together([getattr(result, part) for result in results]) for part in ("outputs", "labels"))
    number = project.size(results[0]._replace(outputs=outputs, labels=labels))
    seed_everything(project.params.seed)

    def noisy(tensor: Tensor) -> Tensor:
        varies = spread and tensor.is_floating_point() and tensor.numel() > 1
        return tensor + spread * tensor.std() * torch.randn_like(tensor) if varies else tensor

    return map_tensors(lambda tensor: noisy(tensor.detach()), outputs), labels, number


def _together(parts: list[Any]) -> Any:
    """Several batches as one, however nested."""
    first = parts[0]
    if isinstance(first, Tensor):
        if first.dim() == 0 or any(part.shape[1:] != first.shape[1:] for part in parts):
            raise CannotJudge("batches of val have different shapes")
        return torch.cat(parts)
    if isinstance(first, dict):
        return {key: _together([part[key] for part in parts]) for key in first}
    if isinstance(first, list | tuple):
        if not any(tensors_in(list(first))):
            return [entry for part in parts for entry in part]
        return type(first)(_together([part[place] for part in parts]) for place in range(len(first)))
    return first


def _judge(name: str, metric: Any, outputs: Any, labels: Any, number: int, size: int) -> Finding | None:
    """What is wrong with one metric, if anything is."""
    chunks = [torch.arange(start, min(start + size, number)) for start in range(0, number, size)]
    try:
        whole = metric(to_numpy(outputs), to_numpy(labels))
        if isinstance(whole, tuple):
            return None  # added up over the split
        parts = [
            float(metric(to_numpy(take(outputs, rows, number)), to_numpy(take(labels, rows, number))))
            for rows in chunks
        ]
    except Exception as error:
        return warned(f"{name}: {first_line(error)}", "a metric takes any batch, also a small one")
    if _pairs_all(metric, outputs, labels, float(whole)):
        shapes = f"outputs {tuple(outputs.shape)} and labels {tuple(labels.shape)}"
        return failed(f"{name} compares each of {shapes} with each", "bring both to one shape: outputs.squeeze(1)")
    mean = float(np.average(parts, weights=[len(rows) for rows in chunks]))
    if abs(mean - float(whole)) > 1e-4 * max(abs(mean), abs(float(whole)), 1e-3):
        seen = f"{name} is {float(whole):.4g} over val, and {mean:.4g} as the mean over batches of {size}"
        return warned(seen, "what is logged is the mean: return (total, count), or use an object of torchmetrics")
    return None


def _pairs_all(metric: Any, outputs: Any, labels: Any, whole: float) -> bool:
    """Whether the value is another one when outputs have the shape of the labels."""
    if not (isinstance(outputs, Tensor) and isinstance(labels, Tensor)):
        return False
    if outputs.shape == labels.shape or outputs.numel() != labels.numel():
        return False
    try:
        return abs(float(metric(to_numpy(outputs.reshape(labels.shape)), to_numpy(labels))) - whole) > 1e-6
    except Exception:
        return False  # it wants the shape it is given
