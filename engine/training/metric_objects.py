"""Metrics that are objects, such as those of torchmetrics: what they are shown, remember, and compute."""

import copy
import warnings
from collections import Counter, OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.errors import UserError, form_of
from engine.nested import map_tensors, tensors_in

OF_MODULES = set(vars(nn.Module()))  # parameters, hooks and the like, which are the module's own business
OBJECT_METHODS = ("update", "compute", "reset", "state_dict", "load_state_dict")


def checked_object(name: str, metric: Any) -> Any:
    """A copy of the metric object. Raises `UserError` if it lacks a method that such objects have."""
    if lacking := [method for method in OBJECT_METHODS if not hasattr(metric, method)]:
        raise UserError(f'metric "{name}" has an update but no {", ".join(lacking)}, which metric objects need')
    return copy.deepcopy(metric)


def update(metric: Any, outputs: Any, labels: Any) -> None:
    """Show a metric object a batch, on its device."""
    outputs = map_tensors(in_full, outputs)
    first = next(tensors_in(outputs), None)
    if first is not None and hasattr(metric, "to"):
        metric.to(first.device)
    metric.update(outputs, labels)


def in_full(tensor: Tensor) -> Tensor:
    """The numbers themselves, in a precision that can be summed up."""
    is_short = tensor.is_floating_point() and tensor.element_size() < 4
    return tensor.detach().float() if is_short else tensor.detach()


def memory_of(metric: Any) -> Any:
    """What a metric object has to be told to go on.

    One of torchmetrics leaves its counts out of its `state_dict`, and its wrappers also what is not registered as a
    count; so all that they and their parts hold is kept, as far as it is tensors, arrays, numbers and text.
    """
    if not isinstance(metric, nn.Module):
        return metric.state_dict()
    if isinstance(metric, nn.ModuleDict):
        tuple(metric.items())  # a collection counts once for all metrics that count the same: now each has its own
    parts = {name: part for name, part in metric.named_modules() if hasattr(part, "_defaults")}
    values = {
        name: {key: value for key, value in vars(part).items() if key not in OF_MODULES and _is_plain(value)}
        for name, part in parts.items()
    }
    return {"state_dict": metric.state_dict(), "values": copy.deepcopy(values)}


def remember(metric: Any, memory: Any) -> None:
    """Give a metric object back what `memory_of` kept of it."""
    if not isinstance(metric, nn.Module):
        metric.load_state_dict(memory)
        return
    metric.load_state_dict(memory["state_dict"])
    parts = dict(metric.named_modules())
    for name, values in memory["values"].items():
        parts[name].__dict__.update(values)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if type(value) in (dict, OrderedDict, Counter):
        return all(map(_is_plain, value.values()))
    return value is None or isinstance(value, (Tensor, np.ndarray, np.number, int, float, str))


def names_of(name: str, metric: Any) -> list[str]:
    """The names under which a metric object will be logged: tried on a copy, as only its values tell."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [part for part, _ in flat(name, copy.deepcopy(metric).compute())]
    except Exception:  # too few examples yet, and what a metric makes of that can be anything
        return list(metric) if hasattr(metric, "keys") else [name]


def flat(name: str, value: Any) -> list[tuple[str, float]]:
    """A computed metric as numbers by name: a dict keeps its names, several values are numbered."""
    if isinstance(value, dict):
        return [pair for part, inner in value.items() for pair in flat(str(part), inner)]
    try:
        numbers = list(map(float, (value.flatten() if isinstance(value, Tensor) else np.ravel(value)).tolist()))
    except (TypeError, ValueError) as error:
        raise UserError(f'net.py: the metric "{name}" computes {form_of(value)}, not numbers') from error
    if len(numbers) == 1:
        return [(name, numbers[0])]
    return [(f"{name}_{index}", number) for index, number in enumerate(numbers)]


class MacroF1:
    """F1 of each class, averaged over the classes that occur, from `(B, C)` scores or logits and `(B,)` labels.

    Labels below 0, such as the -100 that torch's losses ignore, count for nothing. It counts on the device and never
    waits for it; torchmetrics has the same, but takes two seconds to import.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.reset()

    def reset(self) -> None:
        """Forget all counts."""
        self.counts = torch.zeros(3, self.num_classes, dtype=torch.int64)  # of each class: hits, labels, predictions

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        """Count a batch: `(B, C)` outputs, `(B,)` labels."""
        self.counts = self.counts.to(labels.device)
        labels, predicted = labels.long(), outputs.argmax(dim=1)
        counted = (labels >= 0).long()
        labels = labels.clamp(min=0)
        self.counts[0].scatter_add_(0, labels, counted * (labels == predicted))
        self.counts[1].scatter_add_(0, labels, counted)
        self.counts[2].scatter_add_(0, predicted, counted)

    def state_dict(self) -> dict[str, Tensor]:
        """The counts."""
        return {"counts": self.counts}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from these counts."""
        self.counts = state["counts"]

    def compute(self) -> float:
        """The mean of 2 x hits / (labelled + predicted) over the classes that were labelled or predicted."""
        hits, labelled, predicted = self.counts.double()
        occurrences = labelled + predicted
        return (2 * hits / occurrences)[occurrences > 0].mean().item()
