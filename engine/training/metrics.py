"""Losses and metrics of one split, added up batch by batch so that the batch size cannot show in them."""

import copy
import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engine.data import EMPTY
from engine.errors import UserError, form_of
from engine.nested import count_examples, is_plain, map_tensors, tensors_in
from engine.training.metric_functions import Size, counted_of, totals_of
from engine.training.metric_objects import (
    checked_object,
    flat,
    in_full,
    memory_of,
    merged,
    names_of,
    remember,
    update,
)
from engine.training.processes import Processes
from engine.training.transfer import Transfer


class Mean(NamedTuple):
    """A mean together with how many it is the mean of."""

    value: Tensor
    weight: Any


Sums = dict[str, list[float]]  # [total, count] by name
Losses = dict[str, Mean]  # of a batch; "loss" is the one to minimise


class Batch(NamedTuple):
    """What is known of a batch whose scores are on their way."""

    number: int
    losses: list[str]  # their names
    size: Size | None  # where functions see it


class Totals(NamedTuple):
    """What has been counted of a split: by one process, or by all of them."""

    examples: int
    losses: Sums
    functions: Sums
    objects: dict[str, Any]


class Scores:
    """The losses and metrics of a split.

    Three kinds of metric: a function that returns the mean over the batch; one that returns (total, count); and an
    object with `update`, `compute` and `reset`, such as those of torchmetrics, for what is no mean.

    With `every` > 1 the functions see only each so-manieth batch; losses and metric objects are exact over all batches
    all the same. Batches that follow fast are scored together, which shows in no score: a GPU is not waited for, as
    what the functions and the sums need comes over while it goes on, and a CPU scores many in a fraction of the time.
    Of several processes each counts its own shares; what is kept or computed is of all of them.
    """

    def __init__(self, metrics: dict[str, Any], every: int = 1, processes: Processes | None = None) -> None:
        metrics = {name: metric for name, metric in metrics.items() if name != "loss"}  # the loss, as the course had it
        self.functions = {name: metric for name, metric in metrics.items() if not hasattr(metric, "update")}
        self.processes = processes or Processes()
        count = self.processes.count
        self.objects = {name: checked_object(name, m, count) for name, m in metrics.items() if hasattr(m, "update")}
        self.every = every
        self.reset()

    def reset(self) -> None:
        """Begin a new pass."""
        self.batches = 0
        self.examples = 0
        self.not_finite_at: int | None = None  # the first batch with a loss that is NaN or infinite
        self._losses: Sums = {}
        self._functions: Sums = {}
        self._taken = Transfer()  # of batches that are yet to be scored
        self._sent: deque[Transfer] = deque()
        for metric in self.objects.values():
            metric.reset()

    @property
    def sampled(self) -> list[str]:
        """The names of the scores that are of some batches only."""
        return list(self.functions) if self.every > 1 else []

    def present(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches of which this process has a share; the others are counted, and that is all."""
        for batch in batches:
            if batch is EMPTY:
                self.skip()
            else:
                yield batch

    def skip(self) -> None:
        """Count a batch of which this process has no share."""
        self.batches += 1

    def add(self, losses: Losses | None, outputs: Any, labels: Any, asked: int | None = None) -> None:
        """Take one batch in, for which so many examples were asked; one without losses is not scored."""
        if losses is not None:
            self._take(losses, outputs, labels, asked)
            self.batches += 1
        self.examples += asked or count_examples(counted_of(outputs, labels))

    def _take(self, losses: Losses, outputs: Any, labels: Any, asked: int | None = None) -> None:
        """Keep what one batch is scored by; score those that were sent before, if it is time to send these."""
        if self.objects:
            self._update_objects(outputs, labels)
        seen: Any = ()
        size = None
        if self.functions and self.batches % self.every == 0:
            seen, size = (outputs, labels), Size.of(counted_of(outputs, labels), asked)
        values, weights = zip(*losses.values(), strict=True)
        self._taken.add((values, weights, seen), about=Batch(self.batches, list(losses), size))
        if self._taken.is_full or not is_plain(seen):
            self._send()
            self._score(but=int(self._sent[-1].is_on_its_way))

    def settle(self) -> None:
        """Score all batches that have been taken in; waits for the device where it has to."""
        self._send()
        self._score()

    def _send(self) -> None:
        self._taken.send()
        self._sent.append(self._taken)
        self._taken = Transfer()

    def _score(self, but: int = 0) -> None:
        """Score the batches that were sent, but for those that went last."""
        while len(self._sent) > but:
            batches = self._sent.popleft().arrays()
            for batch, (values, weights, _) in batches:
                self._add_losses(batch, values, weights)
            seen = [(batch.size, *arrays) for batch, (_, _, arrays) in batches if batch.size is not None]
            for name, total, count in totals_of(self.functions, seen):
                _add(self._functions, name, total, count)

    def _add_losses(self, batch: Batch, values: Iterable[Any], weights: Iterable[Any]) -> None:
        for name, value, weight in zip(batch.losses, map(_number, values), map(_number, weights), strict=True):
            if name == "loss" and self.not_finite_at is None and not math.isfinite(value):
                self.not_finite_at = batch.number
            _add(self._losses, name, value * weight, weight)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of a pass that is under way."""
        state = {"batches": self.batches, **_state_of(self._of_all())}
        if self.processes.count > 1:
            state["shares"] = self.processes.gather(_on_cpu(_state_of(self._own())))
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a pass from what a checkpoint kept.

        Of several processes each goes on with what it had, to the bit; where they are more or fewer than those were,
        the first does with what all had.
        """
        self.batches = state["batches"]
        if len(shares := state.get("shares", ())) == self.processes.count:
            state = shares[self.processes.rank]
        elif not self.processes.is_first:
            return
        self.examples = state["examples"]
        self._losses, self._functions = state["losses"], state["functions"]
        for name, metric in self.objects.items():
            remember(metric, state["objects"][name])

    @property
    def names(self) -> list[str]:
        """The names of all that is scored, once a batch has been seen. Raises `UserError` if two are the same."""
        self.settle()
        return _without_twins(self._names({name: names_of(name, metric) for name, metric in self.objects.items()}))

    @property
    def loss(self) -> float:
        """The mean loss over the batches that have been added up."""
        return _means(self._losses).get("loss", math.nan)

    def compute(self) -> dict[str, float]:
        """Each metric and loss over all batches so far, the metrics first."""
        whole = self._of_all()
        return self.processes.from_first(lambda: self._computed(whole))

    def _of_all(self) -> Totals:
        """What all processes have counted, in the first of them."""
        own = self._own()
        if self.processes.count == 1:
            return own
        memories = {name: _on_cpu(memory_of(metric)) for name, metric in self.objects.items()}
        parts = self.processes.gather(own._replace(objects=memories))
        if not self.processes.is_first:
            return own
        objects = {n: merged(n, metric, [part.objects[n] for part in parts]) for n, metric in self.objects.items()}
        examples = sum(part.examples for part in parts)
        return Totals(examples, _sum_of([p.losses for p in parts]), _sum_of([p.functions for p in parts]), objects)

    def _own(self) -> Totals:
        """What this process has counted."""
        self.settle()
        return Totals(self.examples, self._losses, self._functions, self.objects)

    def _computed(self, whole: Totals) -> dict[str, float]:
        if not whole.losses:
            raise UserError("the split holds no batch to compute a loss from")
        values = {name: flat(name, metric.compute()) for name, metric in whole.objects.items()}
        names = _without_twins(self._names({name: [part for part, _ in parts] for name, parts in values.items()}))
        scores = _means(whole.functions) | dict(itertools.chain(*values.values())) | _means(whole.losses)
        return {name: scores[name] for name in names if name in scores}

    def _names(self, of_objects: dict[str, list[str]]) -> list[tuple[str, str]]:
        """Each name that is logged with what it is of: functions, then objects, then losses."""
        functions = [(name, f'the metric "{name}"') for name in self.functions]
        objects = [(part, f'the metric "{name}"') for name, parts in of_objects.items() for part in parts]
        losses = [(name, "the loss") for name in self._losses]
        return [*functions, *objects, *losses]

    def _update_objects(self, outputs: Any, labels: Any) -> None:
        versions = [tensor._version for tensor in tensors_in((outputs, labels))]
        with torch.no_grad():
            for metric in self.objects.values():
                update(metric, outputs, labels)
        if [tensor._version for tensor in tensors_in((outputs, labels))] != versions:
            names = ", ".join(self.objects)
            raise UserError(f"net.py: a metric ({names}) changes the outputs or labels it is given; have it clone them")


def sampling(every: int | None, batches: int) -> int:
    """How many batches of an epoch go by for each that functions see: one, or so many as params.json says.

    They see at least three of the epoch's `batches`, where it has as many.

    >>> sampling(None, 500), sampling(100, 500), sampling(100, 7)
    (1, 100, 3)
    """
    return 1 if every is None else max(1, min(every, (batches - 1) // 2))


def _add(sums: Sums, name: str, total: float, count: float) -> None:
    sum_of_name = sums.setdefault(name, [0.0, 0.0])
    sum_of_name[0] += total
    sum_of_name[1] += count


def _state_of(totals: Totals) -> dict[str, Any]:
    state = copy.deepcopy({name: getattr(totals, name) for name in ("examples", "losses", "functions")})
    return state | {"objects": {name: memory_of(metric) for name, metric in totals.objects.items()}}


def _sum_of(parts: list[Sums]) -> Sums:
    whole: Sums = {}
    for name, (total, count) in itertools.chain(*(part.items() for part in parts)):
        _add(whole, name, total, count)
    return whole


def _on_cpu(memory: Any) -> Any:
    return map_tensors(Tensor.cpu, memory)


def _means(sums: Sums) -> dict[str, float]:
    return {name: total / count if count else math.nan for name, (total, count) in sums.items()}


def mean_losses(loss: Any, outputs: Any, labels: Any, asked: int | None = None) -> Losses:
    """The loss of a batch, in whatever form `loss_fn` returns it, as means by name, each with its weight.

    A mean weighs as much as the batch has examples, for which `asked` is how many the loader was asked for; a
    (total, count) weighs its count. A batch in which nothing counts (all of it masked) has mean 0 and weight 0.
    """
    if isinstance(loss, dict) and "loss" not in loss:
        raise UserError(f'the loss is a dict without "loss", the one to minimise; it has {", ".join(loss)}')
    counted = counted_of(outputs, labels)
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


def to_numpy(tensors: Any) -> Any:
    """NumPy arrays in place of tensors, however nested; numbers of 16 bits as float32."""
    return map_tensors(lambda tensor: in_full(tensor).cpu().numpy(), tensors)


def _without_twins(names: list[tuple[str, str]]) -> list[str]:
    """The names alone. Raises `UserError` if two scores are called the same: one would be gone."""
    owners: dict[str, str] = {}
    for name, owner in names:
        if name in owners:
            both = owner if owner == owners[name] else f"{owners[name]} and {owner}"
            raise UserError(f'net.py: two scores are called "{name}", of {both}; rename one, or give a "prefix"')
        owners[name] = owner
    return list(owners)


def _number(value: Any) -> float:
    """A plain number, or that in an array of one."""
    return float(value.item() if hasattr(value, "item") else value)
