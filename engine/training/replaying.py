"""Whether a run that was trained again came out the same, to the bit; and if not, what differs, and why it may."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from engine.errors import UserError
from engine.experiment import BEST, LAST, Experiment, Replay
from engine.training.checkpoint import Checkpoint, read_checkpoint
from engine.wording import counted, some

ITS_OWN = {"run", "seconds", "training_seconds", "examples_per_second", "peak_memory"}  # of no two runs the same
NAMES = {"state_dict": "weights", "optim_dict": "optimizer"}  # in words, of what a checkpoint holds
OTHERWISE = (
    "Code, data, versions and device are as they were. What is left: a task that draws from the clock or another "
    'generator, or operations whose bits differ from time to time ("deterministic": true forbids them)'
)


def replay(what: Replay) -> None:
    """Train again and say what came of it; exits with status 1 if it is not the same."""
    for change in what.changed:
        print(f"Other than it was: {change}", flush=True)
    what.train()
    old, new = what.original, what.experiment
    found = [*_score_differences(old, new), *_checkpoint_differences(old, new)]
    if not found:
        epochs = counted(len(new.history()), "epoch")
        print(f"{new.folder} is {old.folder} to the bit: the scores of {epochs}, all of {_compared(old)}")
        return
    print(f"{new.folder} is not the same as {old.folder}:")
    print("\n".join(f"  {line}" for line in found))
    causes = [*what.changed, *_elsewhere(old, new)]
    print(f"Other than it was: {'; '.join(causes)}" if causes else OTHERWISE)
    raise SystemExit(1)


def _compared(old: Experiment) -> str:
    return " and ".join(name for name in (BEST, LAST) if old.file(name).is_file()) or "no checkpoint, as none was kept"


def _elsewhere(old: Experiment, new: Experiment) -> list[str]:
    """What only the run itself could say: where it was computed, and by how many processes."""
    before, now = old.run(), new.run()
    keys = [key for key in ("device", "processes", "system") if before.get(key) != now.get(key)]
    return [f"{key} {before.get(key)} -> {now.get(key)}" for key in keys]


def _score_differences(old: Experiment, new: Experiment) -> Iterator[str]:
    """The first epoch whose scores differ, and how many do."""
    pairs = list(zip(old.history(), new.history(), strict=False))
    differing = [(before, now) for before, now in pairs if _of_the_run(before) != _of_the_run(now)]
    if differing:
        before, now = differing[0]
        names = [key for key in _of_the_run(before | now) if before.get(key) != now.get(key)]
        first = f"{names[0]} {before.get(names[0])} -> {now.get(names[0])}"
        share = f"{len(differing)} of {counted(len(pairs), 'epoch')}"
        yield f"scores: {share} differ, the first is epoch {before['epoch']}: {first}"
    if len(old.history()) != len(new.history()):
        yield f"scores: {counted(len(old.history()), 'epoch')} -> {len(new.history())}"


def _of_the_run(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ITS_OWN}


def _checkpoint_differences(old: Experiment, new: Experiment) -> Iterator[str]:
    """What differs in each checkpoint that the first run has kept."""
    for name in (BEST, LAST):
        if old.file(name).is_file():
            try:
                before, now = read_checkpoint(old.file(name)), read_checkpoint(new.file(name))
            except UserError as error:
                yield str(error)
                continue
            yield from (f"{name}: {line}" for line in _part_differences(before, now))


def _part_differences(before: Checkpoint, now: Checkpoint) -> Iterator[str]:
    for key in sorted((before.keys() | now.keys()) - ITS_OWN):
        one, other = dict(_leaves(before.get(key))), dict(_leaves(now.get(key)))
        places = [place for place in {**one, **other} if not _same(one.get(place), other.get(place))]
        if places:
            what = NAMES.get(key, key)
            yield f"{what}: {len(places)} of {len({**one, **other})} differ{_distance(one, other, places)}"


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """What nested values are made of, by place."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else None
    if items is None:
        yield place, value
        return
    for key, inner in items:
        yield from _leaves(inner, f"{place}.{key}" if place else str(key))


def _same(one: Any, other: Any) -> bool:
    """Whether two leaves are equal; of tensors, type and bits are, so that NaN is like itself."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if (one.dtype, one.shape, one.layout) != (other.dtype, other.shape, other.layout):
            return False
        one, other = (tensor.to_dense().contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
        return torch.equal(one, other)
    return type(one) is type(other) and repr(one) == repr(other)


def _distance(one: dict[str, Any], other: dict[str, Any], places: list[str]) -> str:
    """The largest difference between tensors of the same shape, or where the others are."""
    pairs: list[tuple[Any, Any]] = [(one.get(place), other.get(place)) for place in places]
    gaps = [(a.double() - b.double()).abs().max().item() for a, b in pairs if _comparable(a, b)]
    return f", by at most {max(gaps):.2g}" if gaps else f" ({some(places)})"


def _comparable(one: Any, other: Any) -> bool:
    both = isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape == other.shape and one.numel() > 0
    return both and not (one.is_complex() or other.is_complex())
