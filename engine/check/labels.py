"""Whether labels are numbered as outputs are, and how the classes lie in the splits."""

import math

import torch
from torch import Tensor

from engine.check.finding import CannotJudge, Finding, failed, named, passed, warned
from engine.check.heads import Head
from engine.check.project import Project
from engine.wording import some

RARE = 1e-3  # what is less likely than this did not happen by chance
MOST_SHARE = 0.9  # of the commonest class, above which accuracy says little
MOST_CLASSES = 1000


def labels_fit_outputs(project: Project) -> Finding:
    """Classes are numbered from 0, and there are as many outputs; what is outside, the loss ignores."""
    found = []
    for name, head in _heads(project, "train", "classes").items():
        number = head.outputs.shape[1]
        looked_at = head.labels if head.weighed is None else head.labels[head.weighed]
        outside = looked_at[(looked_at < 0) | (looked_at >= number)].unique().tolist()
        if outside:
            seen = f"{named(name)}label {outside[0]} has no output: there are {number}, for labels 0 to {number - 1}"
            return failed(seen, "count the classes from 0, and give the network one output for each")
        there = head.labels[head.counted].unique().tolist()
        if not there:
            return failed(f"{named(name)}no label has an output", "count the classes from 0")
        highest, classes = int(max(there)), getattr(project.params, "classes", None)
        if isinstance(classes, list | tuple) and len(classes) != number and max(len(classes), number) > 2 and not name:
            return warned(
                f"{number} outputs for {len(classes)} classes", "give the network as many as there are classes"
            )
        if len(there) == 1:
            return failed(f"{named(name)}all labels looked at are {highest}", "there is nothing to learn")
        if highest + 1 < number and (1 - 0.1 / number) ** int(head.counted.sum()) < RARE:  # even if ten times as rare
            seen = f"{named(name)}{number} outputs, and no label above {highest} in {int(head.counted.sum())}"
            return warned(seen, "give the network as many outputs as there are classes")
        if 0 not in there and len(there) == number - 1 and highest == number - 1:
            seen = f"{named(name)}labels go from 1 to {highest}, and nothing is ever of class 0"
            return warned(seen, "count the classes from 0, unless 0 is kept for something")
        found.append(f"{named(name)}{len(there)} of {number} classes")
    return passed(", ".join(found))


def classes_are_in_each_split(project: Project) -> Finding:
    """Each class of one split is in the other, as far as their sizes let one expect, and about as often."""
    parts = {split: _heads(project, split, "classes") for split in ("train", "val")}
    for name, head in parts["train"].items():
        number = head.outputs.shape[1]
        if number > MOST_CLASSES:
            raise CannotJudge(f"{number} classes are too many to expect each of them")
        train, val = (_counts(parts[split][name], number) for split in parts)
        if unknown := ((val > 0) & (train == 0)).nonzero().flatten().tolist():
            seen = f"{named(name)}class {some([str(c) for c in unknown])} is in val and not in train"
            if (1 - val[unknown].sum() / val.sum()) ** train.sum() < RARE:
                return failed(seen, "split the data at random, class by class")
        shares = train.double() / train.sum()
        missing = [c for c in range(number) if train[c] and not val[c] and (1 - shares[c]) ** int(val.sum()) < RARE]
        if missing:
            seen = f"{named(name)}class {some([str(c) for c in missing])} is in train and not in val"
            return warned(seen, "split the data at random, class by class; a file sorted by class cannot be cut")
    return passed(f"val has all that {int(val.sum())} labels let one expect")


def classes_are_balanced(project: Project) -> Finding:
    """No class is so common that always guessing it looks like success."""
    found = []
    for name, head in _heads(project, "val", "classes").items():
        counts = _counts(head, head.outputs.shape[1])
        share, commonest = float(counts.max() / counts.sum()), int(counts.argmax())
        found.append(f"{named(name)}always guessing class {commonest} scores {share:.3f} on val")
        monitor = project.params.monitor or "accuracy"
        if share > MOST_SHARE and monitor == "accuracy" and "accuracy" in project.task.metrics(project.params):
            return warned(found[-1], "monitor a score that cares for each class, such as F1; weigh the loss by class")
    return passed("; ".join(found))


def values_are_scaled(project: Project) -> Finding:
    """Labels that are numbers lie where an untrained network can reach them in a few steps."""
    found = []
    for name, head in _heads(project, "train", "values").items():
        centre, spread = float(head.labels.mean()), float(head.labels.std())
        outputs = head.outputs.float()
        found.append(f"{named(name)}labels are {centre:.3g} ± {spread:.2g}, first outputs {outputs.mean():.3g}")
        if spread == 0:
            return failed(f"{named(name)}all labels looked at are {centre:.4g}", "there is nothing to learn")
        away = math.sqrt(float((outputs - head.labels).square().mean())) / (float(outputs.std()) + 1.0)
        if away > 10:
            advice = (
                "scale the labels by mean and standard deviation of the training data, inside the network or before"
            )
            return warned(found[-1], advice)
    return passed("; ".join(found))


def _heads(project: Project, split: str, kind: str) -> dict[str, Head]:
    """The heads of one kind."""
    found = {name: head for name, head in project.heads(split).items() if head.kind == kind}
    if not found:
        raise CannotJudge(f"the labels are no {kind}")
    return found


def _counts(head: Head, number: int) -> Tensor:
    return torch.bincount(head.labels[head.counted], minlength=number)
