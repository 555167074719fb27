"""Losses and metrics of one split, added up batch by batch so that the batch size cannot show in them."""

import copy
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.errors import UserError
from engine.nested import count_examples, map_tensors

Metric = Callable[[Any, Any], Any]


OBJECT_METHODS = ("update", "compute", "reset", "state_dict", "load_state_dict")


class Mean(NamedTuple):
    """A mean together with how many it is the mean of."""

    value: Tensor
    weight: Any


Losses = dict[str, Mean]  # of a batch; "loss" is the one to minimise


class Scores:
    """The losses and metrics of a split.

    Three kinds of metric: a function that returns the mean over the batch; one that returns (total, count); and an
    object with `update`, `compute` and `reset`, such as those of torchmetrics, for what is no mean.

    With `every` > 1, as in training, the functions see only each so-manieth batch, and only then does the program wait
    for the device; losses and metric objects are exact over all batches all the same.
    """

    def __init__(self, metrics: dict[str, Any], every: int = 1) -> None:
        metrics = {name: metric for name, metric in metrics.items() if name != "loss"}  # the loss, as the course had it
        self.functions = {name: metric for name, metric in metrics.items() if not hasattr(metric, "update")}
        self.objects = {name: copy.deepcopy(m) for name, m in metrics.items() if hasattr(m, "update")}
        for name, metric in self.objects.items():
            if lacking := [method for method in OBJECT_METHODS if not hasattr(metric, method)]:
                raise UserError(f'metric "{name}" has an update but no {", ".join(lacking)}, which metric objects need')
        self.every = every
        self.reset()

    def reset(self) -> None:
        """Begin a new pass."""
        self.batches = 0
        self.examples = 0
        self.not_finite_at: int | None = None  # the first batch with a loss that is NaN or infinite
        self._settled = 0  # batches whose losses are in the sums
        self._sums: dict[str, list[float]] = {}
        self._pending: list[dict[str, Mean]] = []
        for metric in self.objects.values():
            metric.reset()

    def add(self, losses: Losses | None, outputs: Any, labels: Any, asked: int | None = None) -> None:
        """Take one batch in, for which so many examples were asked; one without losses is not scored."""
        if losses is None:
            return
        if self.batches == 0 and (twice := set(losses) & set(self.names)):
            raise UserError(f'net.py: "{min(twice)}" is both a metric and a part of the loss; rename one of them')
        self._pending.append({name: Mean(mean.value.detach(), mean.weight) for name, mean in losses.items()})
        if self.objects:
            with torch.no_grad():
                for metric in self.objects.values():
                    _update(metric, outputs, labels)
        if self.batches % self.every == 0:
            self.settle()
            self._add_functions(outputs, labels, asked)
        self.batches += 1
        self.examples += asked or count_examples(outputs if labels is None else labels)

    def settle(self) -> None:
        """Wait for the device, and add up the losses of the batches since the last time."""
        if not self._pending:
            return
        for name in self._pending[0]:
            values = _numbers([means[name].value for means in self._pending])
            weights = _numbers([means[name].weight for means in self._pending])
            if name == "loss" and self.not_finite_at is None:
                bad = (index for index, value in enumerate(values, self._settled) if not math.isfinite(value))
                self.not_finite_at = next(bad, None)
            for value, weight in zip(values, weights, strict=True):  # one by one, so that no break shows in the sum
                self._add(name, value * weight, weight)
        self._settled += len(self._pending)
        self._pending.clear()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of a pass that is under way."""
        self.settle()
        for metric in self.objects.values():
            if hasattr(metric, "persistent"):  # torchmetrics leaves its counts out unless told otherwise
                metric.persistent(True)
        counts = {"batches": self.batches, "examples": self.examples, "sums": copy.deepcopy(self._sums)}
        return counts | {"objects": {name: metric.state_dict() for name, metric in self.objects.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a pass from what a checkpoint kept."""
        self.batches = self._settled = state["batches"]
        self.examples, self._sums = state["examples"], state["sums"]
        for name, metric in self.objects.items():
            if hasattr(metric, "persistent"):
                metric.persistent(True)
            metric.load_state_dict(state["objects"][name])

    @property
    def names(self) -> list[str]:
        """The names of all that is scored, once a batch has been seen."""
        collections = [list(m) if hasattr(m, "keys") else [name] for name, m in self.objects.items()]
        return [*self.functions, *itertools.chain(*collections), *(n for n in self._sums if n not in self.functions)]

    @property
    def loss(self) -> float:
        """The mean loss over the batches that have been added up."""
        total, count = self._sums.get("loss", (math.nan, 1))
        return total / count if count else math.nan

    def compute(self) -> dict[str, float]:
        """Each metric and loss over all batches so far, the metrics first."""
        self.settle()
        if "loss" not in self._sums:
            raise UserError("the split holds no batch to compute a loss from")
        values: dict[str, float] = {}
        for name, metric in self.objects.items():
            values.update(_flat(name, metric.compute()))
        means = {name: total / count if count else math.nan for name, (total, count) in self._sums.items()}
        return {name: means[name] for name in self.functions if name in means} | values | means

    def _add_functions(self, outputs: Any, labels: Any, asked: int | None) -> None:
        counted = outputs if labels is None else labels
        if self.functions:
            outputs, labels = to_numpy(outputs), to_numpy(labels)
        for name, function in self.functions.items():
            result = function(outputs, labels)
            examples = 1 if isinstance(result, tuple) else count_examples(counted, asked)
            try:
                total, count = result if isinstance(result, tuple) else (result * examples, examples)
                self._add(name, float(total), float(count))
            except (TypeError, ValueError, RuntimeError) as error:
                raise UserError(
                    f'net.py: the metric "{name}" returns {form_of(result)}, not a number or (total, count)'
                ) from error

    def _add(self, name: str, total: float, count: float) -> None:
        sums = self._sums.setdefault(name, [0.0, 0.0])
        sums[0] += total
        sums[1] += count


def mean_losses(loss: Any, outputs: Any, labels: Any, asked: int | None = None) -> Losses:
    """The loss of a batch, in whatever form `loss_fn` returns it, as means by name, each with its weight.

    A mean weighs as much as the batch has examples, for which `asked` is how many the loader was asked for; a
    (total, count) weighs its count. A batch in which nothing counts (all of it masked) has mean 0 and weight 0.
    """
    if isinstance(loss, dict) and "loss" not in loss:
        raise UserError(f'the loss is a dict without "loss", the one to minimise; it has {", ".join(loss)}')
    counted = outputs if labels is None else labels
    parts = loss if isinstance(loss, dict) else {"loss": loss}
    return {name: _mean_loss(name, part, counted, asked) for name, part in parts.items()}


def _mean_loss(name: str, loss: Any, counted: Any, asked: int | None) -> Mean:
    if isinstance(loss, tuple) and len(loss) == 2:
        total, count = loss
        mean = Mean(total / (count + (count == 0)), count)
    else:
        mean = Mean(loss, count_examples(counted, asked))
    if not isinstance(mean.value, Tensor) or mean.value.numel() != 1:
        form = f"it is {form_of(mean.value)}, not a tensor of one number"
        raise UserError(f'net.py: "{name}" is to be a mean over the batch, or (total, count); {form}')
    return mean


class MacroF1:
    """F1 of each class, averaged over the classes that occur, from `(B, C)` scores or logits and `(B,)` labels.

    It counts on the device and never waits for it; torchmetrics has the same, but takes two seconds to import.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.reset()

    def reset(self) -> None:
        """Forget all counts."""
        self.counts = torch.zeros(self.num_classes**2, dtype=torch.int64)

    def update(self, outputs: Tensor, labels: Tensor) -> None:
        """Count a batch: `(B, C)` outputs, `(B,)` labels."""
        self.counts = self.counts.to(labels.device)
        pairs = labels * self.num_classes + outputs.argmax(dim=1)
        self.counts.scatter_add_(0, pairs, torch.ones_like(pairs))

    def state_dict(self) -> dict[str, Tensor]:
        """The counts."""
        return {"counts": self.counts}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from these counts."""
        self.counts = state["counts"]

    def compute(self) -> float:
        """The mean of 2 x hits / (labelled + predicted) over the classes that were labelled or predicted."""
        confusion = self.counts.view(self.num_classes, self.num_classes).double()
        occurrences = confusion.sum(dim=0) + confusion.sum(dim=1)
        scores = 2 * confusion.diagonal() / occurrences
        return scores[occurrences > 0].mean().item()


def to_numpy(tensors: Any) -> Any:
    """NumPy arrays in place of tensors, however nested; floating-point ones as float32."""

    def convert(tensor: Tensor) -> np.ndarray:
        tensor = tensor.detach()
        return (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()

    return map_tensors(convert, tensors)


def _update(metric: Any, outputs: Any, labels: Any) -> None:
    if isinstance(outputs, Tensor):
        outputs = outputs.detach().float() if outputs.is_floating_point() else outputs.detach()
        if hasattr(metric, "to"):
            metric.to(outputs.device)
    metric.update(outputs, labels)


def _numbers(values: Iterable[Any]) -> list[float]:
    """Plain numbers; tensors among them come over from the device in one go."""
    values = list(values)
    if isinstance(values[0], Tensor):
        return torch.stack([value.reshape(()) for value in values]).tolist()
    return [float(value) for value in values]


def form_of(value: Any) -> str:
    """What a value is, for an error message: `None`, `a list`, `a tuple of 3`, `a Tensor of shape (32,)`."""
    if value is None:
        return "None"
    if hasattr(value, "shape"):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, tuple | list | dict) else "")


def _flat(name: str, value: Any) -> dict[str, float]:
    """A computed metric as numbers by name: a dict keeps its names, several values are numbered."""
    if isinstance(value, dict):
        return {key: number for part, inner in value.items() for key, number in _flat(str(part), inner).items()}
    numbers = (value.flatten() if isinstance(value, Tensor) else np.ravel(value)).tolist()
    if len(numbers) == 1:
        return {name: float(numbers[0])}
    return {f"{name}_{index}": float(number) for index, number in enumerate(numbers)}
