"""Metrics that are objects, such as those of torchmetrics: what they are shown, remember, and compute."""

import copy
import itertools
import warnings
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.errors import UserError, form_of
from engine.nested import map_tensors, tensors_in

OF_MODULES = set(vars(nn.Module()))  # parameters, hooks and the like, which are the module's own business
OBJECT_METHODS = ("update", "compute", "reset", "state_dict", "load_state_dict")


def checked_object(name: str, metric: Any, count: int = 1) -> Any:
    """A copy of the metric object, for `count` processes. Raises `UserError` if it lacks a method that it needs."""
    if lacking := [method for method in OBJECT_METHODS if not hasattr(metric, method)]:
        raise UserError(f'metric "{name}" has an update but no {", ".join(lacking)}, which metric objects need')
    if count > 1 and not isinstance(metric, nn.Module) and not hasattr(metric, "merge"):
        raise UserError(
            f'metric "{name}": several processes need a method merge(states) of it, which goes on from what state_dict '
            "gave in each of them"
        )
    metric = copy.deepcopy(metric)
    for part in _parts_that_count(metric).values():
        part.distributed_available_fn = _never  # else it would gather by itself, and turn its lists into tensors
    return metric


def _never() -> bool:
    return False


def _parts_that_count(metric: Any) -> dict[str, Any]:
    """The metrics of torchmetrics within a metric, by their path; none in an object of another kind."""
    modules = metric.named_modules() if isinstance(metric, nn.Module) else ()
    return {path: part for path, part in modules if hasattr(part, "_defaults")}


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
    values = {
        path: {key: value for key, value in vars(part).items() if key not in OF_MODULES and _is_plain(value)}
        for path, part in _parts_that_count(metric).items()
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


def merged(name: str, metric: Any, memories: list[Any]) -> Any:
    """A metric object that remembers what those of several processes do, by what `memory_of` kept of each.

    Raises `UserError` where that cannot be told from what each has counted.
    """
    whole = copy.deepcopy(metric)
    if not isinstance(metric, nn.Module):
        whole.merge(memories)
        return whole
    memory = copy.deepcopy(memories[0])
    for path, part in _parts_that_count(metric).items():
        values = [other["values"][path] for other in memories]
        for key in values[0]:
            place = ".".join(filter(None, (name, path, key)))
            memory["values"][path][key] = _merged_value(place, part, key, [other.get(key) for other in values])
    remember(whole, memory)
    return whole


def _merged_value(place: str, part: Any, key: str, values: list[Any]) -> Any:
    """What all processes remember under a key: counts as the metric says, all else where it is equal."""
    if key == "_update_count":
        return sum(values)
    if key not in part._defaults:
        if key.startswith("_") or _all_equal(values):
            return values[0]
        raise UserError(f"metric {place}: is another one in each process, and several cannot be made one")
    if isinstance(part._defaults[key], list):
        return list(itertools.chain(*values))
    reduction = part._reductions[key]
    if reduction is None or reduction.__name__ == "dim_zero_mean":  # by how much each counts, nobody knows
        if _all_equal(values):
            return values[0]
        raise UserError(
            f"metric {place}: what several processes have counted there cannot be made one; a network with this metric "
            "is for one process"
        )
    return reduction(torch.stack(values))


def _all_equal(values: list[Any]) -> bool:
    first, others = values[0], values[1:]
    if isinstance(first, Tensor):
        return all(torch.equal(first, other) for other in others)
    if isinstance(first, list | tuple):
        return len({len(value) for value in values}) == 1 and all(
            _all_equal(list(v)) for v in zip(*values, strict=True)
        )
    return all(bool(np.all(first == other)) for other in others)


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

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        """Go on from the counts of several processes."""
        self.counts = torch.stack([state["counts"] for state in states]).sum(dim=0)

    def compute(self) -> float:
        """The mean of 2 x hits / (labelled + predicted) over the classes that were labelled or predicted."""
        hits, labelled, predicted = self.counts.double()
        occurrences = labelled + predicted
        return (2 * hits / occurrences)[occurrences > 0].mean().item()
