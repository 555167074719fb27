"""What outputs and labels are to each other, head by head, in one form: classes, flags (yes or no each) or values."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from engine.nested import map_tensors, tensors_in

RANGES = {  # what can come out of an operation
    "Sigmoid": (0.0, 1.0),
    "Softmax": (0.0, 1.0),
    "LogSoftmax": (-math.inf, 0.0),
    "Tanh": (-1.0, 1.0),
    "Relu": (0.0, math.inf),
    "Softplus": (0.0, math.inf),
}
ONLY_SHAPE = ("View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Permute", "T", "ToCopy", "Clone")
ON_LOGITS = {"LogSoftmax", "BinaryCrossEntropyWithLogits", "LogSigmoid"}
SMALLEST = 1e-7  # probability, so that its logarithm is finite


class Head(NamedTuple):
    """One output with its labels: (N, C) outputs and (N,) numbers of classes, or both (N, K)."""

    kind: str  # "classes", "flags" or "values"
    outputs: Tensor  # as the network gave them
    labels: Tensor
    operation: str  # the last one of the network, such as "Sigmoid"
    weighed: Tensor | None = None  # (N,) which rows the loss looks at; None for all

    @property
    def logits(self) -> Tensor:
        """The outputs as logits, whether the network gave those, logarithms of probabilities, or probabilities."""
        outputs = self.outputs.float()
        if self.operation == "Softmax":
            return outputs.clamp(min=SMALLEST).log()
        if self.operation == "Sigmoid":
            return outputs.clamp(SMALLEST, 1 - SMALLEST).logit()
        return outputs

    @property
    def counted(self) -> Tensor:
        """(N,) which rows count: those the loss looks at, if their class has an output."""
        rows = torch.ones(len(self.labels), dtype=torch.bool, device=self.labels.device)
        if self.kind == "classes":
            rows = (self.labels >= 0) & (self.labels < self.outputs.shape[1])
        return rows if self.weighed is None else rows & self.weighed

    def losses(self) -> Tensor:
        """(n,) what each counted row costs: cross-entropy, or the square error."""
        rows, labels = self.counted, self.labels[self.counted]
        if self.kind == "classes":
            return functional.cross_entropy(self.logits[rows], labels, reduction="none")
        if self.kind == "flags":
            return functional.binary_cross_entropy_with_logits(self.logits[rows], labels, reduction="none").mean(1)
        return (self.outputs[rows].float() - labels).square().mean(1)

    def chance(self) -> float:
        """The mean loss of the best answer that is the same for all rows."""
        labels = self.labels[self.counted]
        if self.kind == "classes":
            return entropy(torch.bincount(labels))
        if self.kind == "flags":
            shares = labels.mean(0)
            return -(torch.xlogy(shares, shares) + torch.xlogy(1 - shares, 1 - shares)).mean().item()
        return labels.var(0, correction=0).mean().item()


def entropy(counts: Tensor) -> float:
    """Of a distribution, in natural units."""
    shares = counts.double() / counts.sum()
    return float(-torch.xlogy(shares, shares).sum())


def heads_of(outputs: Any, labels: Any) -> dict[str, Head]:
    """Each head by its name (`""` where there is one without a name); none where nothing fits together."""
    found: dict[str, Head] = {}
    taken: set[int] = set()
    pairs = list(itertools.product(_named(outputs), _named(labels)))
    for (name, given), (label_name, wanted) in sorted(pairs, key=lambda pair: pair[0][0] != pair[1][0]):
        if id(given) in taken or id(wanted) in taken:
            continue
        if head := _head(given, wanted):
            taken |= {id(given), id(wanted)}
            found[name or label_name] = head
    return found


def heads_under(loss: Tensor, outputs: Any, labels: Any) -> dict[str, Head]:
    """The heads, with the rows that the loss looks at: those that its gradient reaches, where some may be padding."""
    heads = heads_of(outputs, labels)
    examples = next((len(tensor) for tensor in tensors_in(labels) if tensor.dim()), 0)
    if not loss.requires_grad or all(len(h.labels) == examples and h.counted.all() for h in heads.values()):
        return heads
    tensors = [tensor for tensor in tensors_in(outputs) if tensor.requires_grad]
    gradients = torch.autograd.grad(loss, tensors, allow_unused=True, materialize_grads=True, retain_graph=True)
    changes = {id(tensor): gradient for tensor, gradient in zip(tensors, gradients, strict=True)}
    reached = heads_of(map_tensors(lambda tensor: changes.get(id(tensor), tensor), outputs), labels)
    return {name: head._replace(weighed=_rows_in(reached.get(name))) for name, head in heads.items()}


def _rows_in(gradient: Head | None) -> Tensor | None:
    """The rows with a gradient; None where there is none at all, so that nothing is known."""
    if gradient is None or not gradient.outputs.any():
        return None
    return gradient.outputs.flatten(1).any(1)


def joined(heads: list[Head]) -> Head:
    """The rows of several batches as one head; what is a value in one of them is in all."""
    kind = "values" if {head.kind for head in heads} == {"flags", "values"} else heads[0].kind
    shapes = [(head.outputs.shape[1:], head.labels.shape[1:]) for head in heads]
    fitting = [head for head, shape in zip(heads, shapes, strict=True) if shape == shapes[0]]
    outputs, labels = (torch.cat([getattr(head, part).detach() for head in fitting]) for part in ("outputs", "labels"))
    weighed = [
        torch.ones_like(h.labels[:, 0] if h.labels.dim() > 1 else h.labels, dtype=torch.bool)
        if h.weighed is None
        else h.weighed
        for h in fitting
    ]
    return Head(kind, outputs, labels, heads[0].operation, torch.cat(weighed))


def _named(nested: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Each tensor with the last key or number on the way to it."""
    if isinstance(nested, Tensor):
        yield name, nested
    elif isinstance(nested, dict):
        for key, value in nested.items():
            yield from _named(value, str(key))
    elif isinstance(nested, list | tuple):
        for number, value in enumerate(nested):
            yield from _named(value, str(number))


def _head(outputs: Tensor, labels: Tensor) -> Head | None:
    """The two as one head, if they can be one."""
    if not outputs.is_floating_point() or not labels.numel() or outputs.numel() % labels.numel():
        return None
    operation = last_operation(outputs)
    if not labels.is_floating_point() and (rows := _by_class(outputs, labels)) is not None:
        return Head("classes", rows, labels.reshape(-1).long(), operation)
    if outputs.numel() != labels.numel():
        return None
    wanted = labels.float().reshape(len(labels), -1) if labels.dim() else labels.float().reshape(1, 1)
    given = outputs.reshape(wanted.shape)
    if bool(((wanted == 0) | (wanted == 1)).all()):
        if wanted.shape[1] > 1 and bool((wanted.sum(1) == 1).all()):
            return Head("classes", given, wanted.argmax(1), operation)
        return Head("flags", given, wanted, operation)
    return Head("values", given, wanted, operation)


def _by_class(outputs: Tensor, labels: Tensor) -> Tensor | None:
    """(N, C) outputs for N labels, wherever the classes stand in their shape."""
    number = outputs.numel() // labels.numel()
    if number < 2:
        return None
    if outputs.shape in ((*labels.shape, number), (labels.numel(), number)):
        return outputs.reshape(-1, number)
    if labels.dim() and outputs.shape == (labels.shape[0], number, *labels.shape[1:]):
        return outputs.movedim(1, -1).reshape(-1, number)
    return None


def last_operation(outputs: Tensor) -> str:
    """The name of what the outputs come from, whatever changed only their shape afterwards: `Sigmoid`, `Addmm`."""
    return _behind_shapes(outputs.grad_fn)


def _behind_shapes(node: Any) -> str:
    while node is not None and _name(node) in ONLY_SHAPE and node.next_functions:
        node = node.next_functions[0][0]
    return _name(node) if node is not None else ""


def _name(node: Any) -> str:
    """`Sigmoid` for a node called `SigmoidBackward0`."""
    return str(node.name()).rstrip("0123456789").removesuffix("Backward")


def operations_of_loss(loss: Tensor, outputs: list[Tensor]) -> tuple[set[str], set[str]]:
    """The operations between a network and its loss, and where those that are made for logits have their input from."""
    ends = {tensor.grad_fn for tensor in outputs if _name(tensor.grad_fn) not in ON_LOGITS}
    found: set[str] = set()
    sources: set[str] = set()
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen or node in ends:
            continue
        seen.add(node)
        found.add(_name(node))
        if _name(node) in ON_LOGITS:
            sources.add(_behind_shapes(node.next_functions[0][0]))
        else:
            waiting += [after for after, _ in node.next_functions]
    return found, sources
