"""A project under examination: some of its batches, and its network, new as often as it is wanted."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from engine.check.finding import CannotJudge
from engine.check.heads import Head, heads_under, joined
from engine.data import SamePass
from engine.errors import UserError
from engine.hyperparameters import Params
from engine.nested import as_pair, map_tensors, tensors_in
from engine.randomness import seed_everything
from engine.seeds import derive
from engine.training import Device, Losses, Task, load_weights, read_checkpoint

Forward = Callable[[Task, nn.Module, Any, Params], tuple[Losses | None, Any, Any]]
OptimizerOf = Callable[[Task, nn.Module, Params], Optimizer]

MOST_EXAMPLES = 2048  # of a split that are looked at
MOST_BYTES = 256 * 2**20
STEPS_IN_ALL = 120  # that all checks together take, those not counted that end by the clock
FEWEST_KEPT = 4  # examples of a batch


class Broken(Exception):
    """The project's own code raised an error."""


class Result(NamedTuple):
    """What comes of one batch."""

    loss: Tensor  # the one that is minimised
    outputs: Any
    labels: Any
    heads: dict[str, Head]  # the outputs with their labels


@dataclass
class Project:
    """All that the checks may look at."""

    task: Task
    params: Params
    device: Device
    loaders: dict[str, Any]
    forward: Forward
    optimizer_of: OptimizerOf
    weights: Path | None = None  # where training is to start from
    folder: Path | None = None  # for a picture
    seconds: float = 60.0  # for all checks together
    batches: dict[str, list[Any]] = field(default_factory=dict)
    fetch_seconds: float = 0.0  # that a training batch takes
    lengths: list[int] = field(default_factory=list)  # of the training batches, as they came
    cut: float = 1.0  # how many times as large a batch is as what is kept of it
    _heads: dict[str, dict[str, Head]] = field(default_factory=dict)

    def gather(self) -> None:
        """Fetch some batches of each split, for a tenth of the time each."""
        for split, loader in self.loaders.items():
            start, size, examples, batches = time.perf_counter(), 0, 0, []
            for batch in SamePass(loader, self.params.seed, split):
                batches.append(self.device.move(batch))
                size += sum(tensor.nbytes for tensor in tensors_in(batch))
                examples += length_of(batch) or 1
                if size > MOST_BYTES or examples >= MOST_EXAMPLES or time.perf_counter() - start > self.seconds / 10:
                    break
            self.batches[split] = batches
            if split == "train":
                self.fetch_seconds = (time.perf_counter() - start) / max(1, len(batches))
                self.lengths = [*map(length_of, batches)]
        with contextlib.suppress(Broken, CannotJudge, RuntimeError, IndexError):  # what is wrong is told by a check
            self._cut_batches()

    def _cut_batches(self) -> None:
        """Keep no more examples of each batch than a step has time for: of a large network a few tell as much."""
        whole = max(self.lengths)
        few = take(self.batches["train"][0], torch.arange(min(2, whole)), whole)
        kept = max(FEWEST_KEPT, int(self.seconds / STEPS_IN_ALL / self._seconds_for_each(few)))
        if kept < whole:
            for split, batches in self.batches.items():
                lengths = map(length_of, batches)
                self.batches[split] = [
                    take(batch, torch.arange(min(kept, length)), length)
                    for batch, length in zip(batches, lengths, strict=True)
                ]
            self.cut = whole / kept

    def _seconds_for_each(self, few: Any) -> float:
        """How long a step takes for each of a few examples, once all is warm."""
        model, moments = self.network().train(), [time.perf_counter()]
        while len(moments) < 4 and moments[-1] - moments[0] < self.seconds / 20:
            result = self.run(model, few)
            result.loss.backward()
            result.loss.item()  # on a GPU: wait for it
            moments.append(time.perf_counter())
        return min(after - before for before, after in itertools.pairwise(moments)) / self.size(result)

    def network(self, number: int = 0) -> nn.Module:
        """The network as training begins with it; another number is another draw of the first weights."""
        seed_everything(self.params.seed if number == 0 else derive(self.params.seed, number))
        model = self.device.place(self.task.Net(self.params))
        if any(map(is_lazy, model.parameters())):
            self.run(model, self.batches["train"][0])  # which tells its layers their sizes
        if self.weights is not None:
            load_weights(model, read_checkpoint(self.weights)["state_dict"], self.weights)
        return model

    def run(self, model: nn.Module, batch: Any) -> Result:
        """One batch through the network and its loss, in full precision."""
        try:
            losses, outputs, labels = self.forward(self.task, model, batch, self.params)
        except Exception as error:
            raise Broken(first_line(error)) from error
        if losses is None:
            raise CannotJudge("the batches have no labels")
        loss = losses["loss"].value
        return Result(loss, outputs, labels, heads_under(loss, outputs, labels))

    def attempt(self, model: nn.Module, batch: Any, what: str) -> Result:
        """The same for a batch that was changed, which the project's code need not be able to take."""
        try:
            return self.run(model, batch)
        except Broken as error:
            raise CannotJudge(f"{what}: {error}") from error

    def outputs(self, model: nn.Module, batch: Any, what: str) -> Any:
        """The outputs alone, where the network gives them without a loss."""
        if self.task.step is not None:
            return self.attempt(model, batch, what).outputs
        try:
            return model(as_pair(batch)[0])
        except Exception as error:
            raise CannotJudge(f"{what}: {first_line(error)}") from error

    def results(self, model: nn.Module, split: str) -> Iterator[Result]:
        """Those of the batches that were fetched of a split, in evaluation, as many as there is time for."""
        model.eval()
        until = time.perf_counter() + self.seconds / 20
        for number, batch in enumerate(self.batches[split]):
            try:
                yield _detached(self.run(model, batch))  # a graph was needed to see what made the outputs
            except Broken as error:
                raise Broken(f"{split}, batch {number + 1}: {error}") from error
            if time.perf_counter() > until:
                return

    def heads(self, split: str) -> dict[str, Head]:
        """The heads over all batches that were fetched of a split, under the first weights."""
        if split not in self._heads:
            gathered: dict[str, list[Head]] = {}
            for result in self.results(self.network(), split):
                for name, head in result.heads.items():
                    gathered.setdefault(name, []).append(head)
            self._heads[split] = {name: joined(heads) for name, heads in gathered.items()}
        if not self._heads[split]:
            raise CannotJudge("outputs and labels are of no kind that is known here")
        return self._heads[split]

    def inputs_in(self, batch: Any, labels: Any) -> list[Tensor]:
        """The tensors of a batch that are no labels; all of them where each is a label too, as in autoencoders."""
        known = {id(tensor) for tensor in labels_in(batch, labels)}
        tensors = list(tensors_in(batch))
        return [tensor for tensor in tensors if id(tensor) not in known] or tensors

    def size(self, result: Result) -> int:
        """How many examples a batch holds, if its first dimension counts them."""
        shape = next((t.shape for t in tensors_in([result.labels, result.outputs]) if t.dim()), None)
        if shape is None:
            raise CannotJudge("how many examples a batch holds cannot be told")
        wanted = getattr(self.loaders["train"], "batch_size", None)
        if wanted != shape[0] and wanted in shape[1:2]:
            raise CannotJudge("the first dimension of a batch does not count its examples")
        return int(shape[0])


def _detached(result: Result) -> Result:
    """The same without the graph, which would stay in memory with it."""
    heads = {name: head._replace(outputs=head.outputs.detach()) for name, head in result.heads.items()}
    return Result(result.loss.detach(), map_tensors(Tensor.detach, result.outputs), result.labels, heads)


def length_of(batch: Any) -> int:
    """How long the first tensor of a batch is."""
    return next((len(tensor) for tensor in tensors_in(batch) if tensor.dim()), 0)


def take(nested: Any, rows: Tensor, size: int) -> Any:
    """The examples at `rows` of a batch of `size`: out of each tensor and each list that has one entry for each."""
    if isinstance(nested, Tensor):
        return nested[rows.to(nested.device)] if nested.dim() and len(nested) == size else nested
    if isinstance(nested, dict):
        return {key: take(value, rows, size) for key, value in nested.items()}
    if isinstance(nested, list | tuple) and len(nested) == size and not any(tensors_in(list(nested))):
        return [nested[row] for row in rows.tolist()]
    if isinstance(nested, tuple) and hasattr(nested, "_fields"):
        return type(nested)(*(take(value, rows, size) for value in nested))
    if isinstance(nested, list | tuple):
        return type(nested)(take(value, rows, size) for value in nested)
    return nested


def labels_in(batch: Any, labels: Any) -> list[Tensor]:
    """The tensors of a batch that are the labels, be it that `step` has made them of another type or shape."""
    wanted = list(tensors_in(labels))
    places = {tensor.data_ptr() for tensor in wanted}
    found = [tensor for tensor in tensors_in(batch) if tensor.data_ptr() in places]
    return found or [tensor for tensor in tensors_in(batch) if any(_says_the_same(tensor, one) for one in wanted)]


def _says_the_same(one: Tensor, other: Tensor) -> bool:
    return one.numel() == other.numel() > 0 and torch.equal(one.flatten().double(), other.flatten().double())


def with_changed(batch: Any, changes: dict[int, Tensor]) -> Any:
    """The batch with other tensors in place of some, which are known by their `id`."""
    return map_tensors(lambda tensor: changes.get(id(tensor), tensor), batch)


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    lines = str(error).strip().splitlines() or ["without a word"]
    return lines[0] if isinstance(error, UserError) else f"{type(error).__name__}: {lines[0]}"


def with_shuffled_labels(project: Project, batch: Any, result: Result, seed: int) -> Any:
    """The batch with its labels, those of `result`, handed to other examples."""
    size = project.size(result)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed >> 1))
    labels = [t for t in labels_in(batch, result.labels) if t.dim() and len(t) == size]
    if not labels or len(labels) == len(list(tensors_in(batch))):
        raise CannotJudge("the labels of a batch cannot be told from its inputs")
    return with_changed(batch, {id(tensor): tensor[order.to(tensor.device)] for tensor in labels})
