"""Whether the outputs can become what the labels are, under the loss there is."""

import math

import torch
from torch import Tensor

from engine.check.finding import CannotJudge, Finding, failed, named, passed, warned
from engine.check.heads import ON_LOGITS, RANGES, Head, operations_of_loss
from engine.check.project import Project
from engine.nested import tensors_in
from engine.training import mean_losses

LEAST_LOSS = 0.1  # of a perfect answer, above which the outputs are too narrow for the loss
BOUNDED = {"Softmax", "Sigmoid", "Tanh", "Relu"}


def outputs_reach_labels(project: Project) -> Finding:
    """What the last operation can give covers what the labels are."""
    found = []
    for name, head in project.heads("train").items():
        if head.operation == "Softmax" and head.outputs.shape[1] == 1:
            seen = f"{named(name)}softmax of one output is always 1"
            return failed(seen, "use a sigmoid for yes or no, and nothing for a number")
        low, high = RANGES.get(head.operation, (-math.inf, math.inf))
        if head.kind == "flags" and head.operation == "Softmax" and not (head.labels.sum(1) == 1).all():
            seen = f"{named(name)}softmax shares out 1, and examples have {head.labels.sum(1).unique().tolist()} flags"
            return failed(seen, "leave softmax out, and use binary_cross_entropy_with_logits")
        if head.kind == "values":
            least, most = float(head.labels.min()), float(head.labels.max())
            if least < low - 0.1 * (most - least) or most > high + 0.1 * (most - least):
                seen = (
                    f"{named(name)}{head.operation} gives {low:g} to {high:g}, labels go from {least:.3g} to {most:.3g}"
                )
                return failed(seen, "leave the last activation out, or scale the labels into its range")
        found.append(f"{named(name)}{head.kind}")
    return passed(", ".join(found))


def loss_fits_outputs(project: Project) -> Finding:
    """The loss is not made for logits where it is given probabilities, and the other way round."""
    result = project.run(project.network().train(), project.batches["train"][0])
    outputs = [tensor for tensor in tensors_in(result.outputs) if tensor.grad_fn is not None]
    operations, sources = operations_of_loss(result.loss, outputs)
    heads = {name: head for name, head in result.heads.items() if head.kind != "values"}
    for name, head in heads.items():
        for source in sorted(sources & BOUNDED):
            least = least_loss(head, source)
            if least > LEAST_LOSS or source == "Relu":
                bound = f": it cannot fall below {least:.2f}" if least > LEAST_LOSS else ""
                seen = f"{named(name)}the loss is made for logits, and is given what comes out of {source}{bound}"
                return failed(seen, f"leave {source.lower()} out, in Net or before the loss")
        positive = head.kind == "classes" and bool((head.outputs > 0).any())
        if positive and "NllLoss" in operations and "LogSoftmax" not in operations:
            seen = f"{named(name)}nll_loss wants logarithms of probabilities, and outputs are above 0"
            return failed(seen, "use cross_entropy, or end in log_softmax")
    if not heads:
        raise CannotJudge("the labels are no classes")
    return passed(f"{', '.join(head.operation or 'outputs' for head in heads.values())} under {_told(operations)}")


def least_loss(head: Head, source: str) -> float:
    """The cross-entropy of the best answer within the range of an operation."""
    low, high = RANGES[source]
    if math.isinf(high):
        return 0.0
    if head.kind == "flags":
        return math.log1p(math.exp(-high)) if low == 0 else math.log1p(math.exp(low))
    return math.log(1 + (head.outputs.shape[1] - 1) * math.exp(low - high))


def _told(operations: set[str]) -> str:
    known = [name for name in sorted(operations) if name.endswith("Loss") or name in ON_LOGITS]
    return " and ".join(known) or "a loss of the task's own"


def normalised_over_classes(project: Project) -> Finding:
    """Probabilities add up to 1 over the classes, not over the examples."""
    for name, head in project.heads("train").items():
        if head.kind != "classes" or head.operation not in ("Softmax", "LogSoftmax"):
            continue
        first = next(iter(project.run(project.network().eval(), project.batches["train"][0]).heads.values()))
        shares = first.outputs.exp() if head.operation == "LogSoftmax" else first.outputs
        if not _all_one(shares.sum(1)) and _all_one(shares.sum(0)):
            return failed(f"{named(name)}probabilities add up to 1 over the batch", "take softmax over dim=1")
        if not _all_one(shares.sum(1)):
            seen = f"{named(name)}probabilities of an example add up to {shares.sum(1)[0]:.3g}"
            return failed(seen, "take softmax over the dimension of the classes")
        return passed("probabilities of each example add up to 1")
    raise CannotJudge("the network gives no probabilities")


def _all_one(sums: Tensor) -> bool:
    return bool(torch.allclose(sums, torch.ones_like(sums), atol=1e-3))


def loss_adds_up(project: Project) -> Finding:
    """The loss of a batch is the mean over its examples: none is judged by the company it is in."""
    if project.task.step is not None:
        raise CannotJudge("`step` computes the loss together with the outputs")
    result = project.run(project.network().eval(), project.batches["train"][0])
    if not isinstance(result.outputs, Tensor) or not isinstance(result.labels, Tensor):
        raise CannotJudge("outputs and labels are not one tensor each")
    number = project.size(result)
    if number < 2 or len(result.outputs) != number:
        raise CannotJudge("a batch is of one example")
    try:
        alone = [(result.outputs[i : i + 1], result.labels[i : i + 1]) for i in range(number)]
        parts = [mean_losses(project.task.loss_fn(*pair), *pair)["loss"] for pair in alone]
    except Exception as error:
        raise CannotJudge("the loss takes no batch of one") from error
    values, weights = (
        torch.tensor([float(torch.as_tensor(part[place]).detach()) for part in parts]) for place in (0, 1)
    )
    mean, whole = float((values * weights).sum() / weights.sum()), result.loss.item()
    seen = f"the loss of a batch is {whole:.4g}, and the mean of its examples' own {mean:.4g}"
    if not values.any() and whole:
        advice = "take softmax over the classes, dim=1"
        return failed(f"each example alone has loss 0, all together {whole:.4g}: a softmax over the batch", advice)
    if abs(whole - mean) > 1e-3 * max(abs(whole), abs(mean)):
        advice = "unless it compares examples with each other: return the mean over them, or (total, count)"
        return warned(seen, advice)
    return passed(seen)
