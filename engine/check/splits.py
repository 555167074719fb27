"""Whether an example of one split stands in another, by its contents."""

import hashlib
import time
from collections import Counter
from typing import Any

import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

from engine.check.finding import CannotJudge, Finding, failed, passed, warned
from engine.check.project import Project
from engine.data import TensorBatches, fingerprint
from engine.nested import as_pair, tensors_in
from engine.randomness import seed_everything
from engine.training import ask_for, fetch_batches

MOST_EXAMPLES = 20_000  # of a split that are looked at
MOST_PICTURES = 4_000  # that are compared with each other
SIDE = 16  # of the small copies of pictures
ALIKE = 0.995  # correlation of two small copies of one picture
UNLIKELY = 1e-4


def splits_are_drawn_alike(project: Project) -> Finding:
    """The loader, asked again under the same seed, gives the same examples in the same order."""
    told = {split: fingerprint(project.loaders[split]) for split in ("train", "val")}
    if None in told.values():
        raise CannotJudge("the splits have neither names nor indices nor tensors to tell their examples by")
    again = ask_for(project.task, list(told), project.params)
    if others := [split for split in told if fingerprint(again[split]) != told[split]]:
        return failed(
            f"asked again, the loader gives other examples for {' and '.join(others)}, or another order",
            "draw them under params.seed, and sort what is found in folders: else no run can go on or be tested",
        )
    return passed("asked again, the loader gives the same examples")


def no_example_is_in_two_splits(project: Project) -> Finding:
    """Val and test hold no more copies of training examples than training examples have copies of each other."""
    inputs = {split: contents(project, split) for split in ("train", "val")}
    inputs |= _test_contents(project)
    prints = {split: [_fingerprint(example) for example in examples] for split, examples in inputs.items()}
    train = prints["train"]
    twice = sum(number > 1 for number in Counter(train).values() for _ in range(number)) / max(1, len(train))
    known, found = set(train), []
    for split in [name for name in prints if name != "train"]:
        copies = sum(mark in known for mark in prints[split])
        found.append(f"{copies} of {len(prints[split])} of {split}")
        if copies and _more_than(copies, len(prints[split]), twice, len(train)):
            seen = f"{copies} of {len(prints[split])} examples of {split} are in train, too"
            return failed(seen, "take them out of train: what was learnt by heart is no test")
    note = f" (as {twice:.0%} of train are more than once)" if twice else ""
    return passed(f"{', '.join(found)} are in train, too{note}")


def no_picture_has_a_near_copy(project: Project) -> Finding:
    """Val and test hold no more near copies of training pictures than training pictures have of each other."""
    inputs = {split: contents(project, split) for split in ("train", "val")}
    inputs |= _test_contents(project)
    small = {split: _small(examples[:MOST_PICTURES]) for split, examples in inputs.items()}
    within = small["train"] @ small["train"].T
    within.fill_diagonal_(-1)
    twice = float((within > ALIKE).any(1).float().mean())
    found = []
    for split in [name for name in small if name != "train"]:
        near = (small[split] @ small["train"].T > ALIKE).any(1)
        copies = int(near.sum())
        found.append(f"{copies} of {len(near)} of {split}")
        if copies and _more_than(copies, len(near), twice, len(small["train"])):
            seen = f"{copies} of {len(near)} pictures of {split} are nearly the same as one of train"
            return warned(seen, "keep copies, and frames of one scene, in one split")
    return passed(f"{', '.join(found)} are nearly one of train" + (f", as {twice:.0%} of train are" if twice else ""))


def _more_than(copies: int, number: int, share: float, examples: int) -> bool:
    """Whether so many copies are more than a random split of such data has, where a share of train has copies.

    The share is itself known from `examples` only, so the upper end of its interval is what is expected.
    """
    expected = stats.beta.ppf(0.999, share * examples + 1, (1 - share) * examples + 1)
    return bool(stats.binom.sf(copies - 1, number, expected) < UNLIKELY or (share == 0 and copies > 2 + 0.01 * number))


def contents(project: Project, split: str) -> list[Tensor]:
    """The inputs of the examples of a split, before what varies them, as far as that can be had."""
    loader = project.loaders[split]
    if isinstance(loader, TensorBatches):
        rows = loader.rows[:MOST_EXAMPLES].to(loader.tensors[0].device)
        return [*loader.tensors[0][rows]]
    if isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset):
        return _items(project, loader.dataset)
    raise CannotJudge(f"{split} is no data set whose examples can be asked for one by one")


def _items(project: Project, dataset: Any) -> list[Tensor]:
    """The inputs of a map-style data set; refuses one whose items are others each time."""
    first, again = (_asked(dataset, 0, seed) for seed in (1, 2))
    if not torch.equal(first, again):
        raise CannotJudge("examples are varied at random as they are read, so they cannot be compared")
    found, until = [], time.perf_counter() + project.seconds / 10
    for index in range(min(len(dataset), MOST_EXAMPLES)):
        found.append(_asked(dataset, index, index))
        if time.perf_counter() > until:
            break
    return found


def _asked(dataset: Any, index: int, seed: int) -> Tensor:
    """One item's inputs as one row of numbers; a picture keeps its shape."""
    seed_everything(seed)
    item = dataset[index]
    inputs = as_pair(item)[0] if isinstance(item, tuple | list) and len(item) == 2 else item
    tensors = list(tensors_in(inputs))
    if not tensors:
        raise CannotJudge("the examples hold no tensors")
    return tensors[0] if len(tensors) == 1 else torch.cat([tensor.flatten().double() for tensor in tensors])


def _test_contents(project: Project) -> dict[str, list[Tensor]]:
    """Those of test, where there is one: its contents are compared, and nothing is computed from it."""
    if "test" not in project.loaders:
        try:
            project.loaders["test"] = fetch_batches(project.task, ["test"], project.params, project.device)["test"]
        except Exception:
            return {}
    return {"test": contents(project, "test")}


def _fingerprint(example: Tensor) -> bytes:
    plain = example.detach().cpu().contiguous()
    return hashlib.blake2b(plain.view(-1).view(torch.uint8).numpy().tobytes(), digest_size=16).digest()


def _small(examples: list[Tensor]) -> Tensor:
    """(N, SIDE * SIDE) small grey copies, each of mean 0 and length 1."""
    if not examples or examples[0].dim() != 3 or min(examples[0].shape[1:]) < SIDE:
        raise CannotJudge("the inputs are no pictures, or too small ones")
    pictures = [
        functional.interpolate(picture[None].float().mean(1, keepdim=True), (SIDE, SIDE), mode="area").flatten()
        for picture in examples
    ]
    small = torch.stack(pictures)
    return functional.normalize(small - small.mean(1, keepdim=True), dim=1)
