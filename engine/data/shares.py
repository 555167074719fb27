"""The share of one process in every batch, where several processes train one network.

What is in a batch is planned without regard to how many processes there are; each takes its rows of it. So nothing has
to be padded, and any number of processes takes the same steps. Only where a loader shares itself out, and so has other
batches in each, are they taken as they are.
"""

import copy
import itertools
import zlib
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from engine.errors import UserError, form_of
from engine.nested import tensors_in
from engine.seeds import derive

EMPTY: Any = object()  # the share in a batch that has fewer rows than there are processes
LOOKED_AT = 4096  # numbers of each tensor of a stream's batch that its checksum is of
ARRAYS = (Tensor, np.ndarray)


class Share:
    """The rows that are this process's: of every batch each `count`-th one, from `rank` on; so the first has some.

    It remembers what was taken since `forget`: how many rows, and a checksum of the whole batches, by which the
    processes can tell that theirs are the same. Of one process alone a share is the whole, and nothing is remembered.
    What is to be known of the others is asked of `processes`.
    """

    def __init__(self, rank: int = 0, count: int = 1, processes: Any = None) -> None:
        self.rank, self.count = rank, count
        self.processes = processes
        self.forget()

    def forget(self) -> None:
        """Begin to remember anew."""
        self.rows = 0  # of this process
        self.missed = 0  # batches without a row for it
        self.checksum = 0

    def of(self, rows: Any) -> Any:
        """This process's part of the rows of a batch, be they a list, a tensor or an array."""
        if self.count == 1:
            return rows
        try:
            return rows[self.rank :: self.count]
        except (TypeError, KeyError, IndexError) as error:
            raise UserError(
                f"a batch sampler gives {form_of(rows)}, which cannot be shared out among {self.count} processes: let "
                "it give lists"
            ) from error

    def seed(self, seed: int, index: int) -> int:
        """What is drawn for a batch follows from this: in the first process as in one alone, and else of its own."""
        return derive(seed, index) if self.rank == 0 else derive(seed, index, "process", self.rank)

    def parts(self, entries: Iterable[tuple[Any, int | None, Any]], is_sharded: bool) -> Iterator[Any]:
        """This process's part of each batch, and how many examples that is, where it is known.

        A loader that shares itself out may have more batches here than in others: these have `EMPTY` parts then, until
        none has one left.
        """
        if not is_sharded or self.count == 1:
            yield from itertools.starmap(self.take, entries)
            return
        own = (batch for batch, *_ in entries)
        for index, batch in enumerate(itertools.chain(own, itertools.repeat(EMPTY))):
            if index == 0:
                self.processes.check_differ(checksum_of_batch(batch))
            if not self.processes.have_some(batch is not EMPTY):
                return
            self._count(0 if batch is EMPTY else min(_sizes(batch, is_whole=True) or {1}))
            yield batch, None

    def take(self, batch: Any, examples: int | None, asked: Any) -> tuple[Any, int | None]:
        """Hand a batch on as this process's share, with how many examples that is, where it is known; and remember it.

        `asked` is what was asked for in the whole batch; where that is not known, it is cut here.
        """
        if self.count == 1:
            return batch, examples
        if examples is None:
            return self.cut(batch), None
        self._remember(examples, checksum_of(asked))
        return batch, examples

    def cut(self, batch: Any) -> Any:
        """This process's part of a whole batch, `EMPTY` where that has too few rows; it is remembered as taken.

        Raises `UserError` for a batch of which it cannot be told what belongs to which example.
        """
        if self.count == 1:
            return batch
        examples = self.examples_in(batch)
        part = self.part_of(batch, examples) if examples > self.rank else EMPTY
        self._remember(len(range(self.rank, examples, self.count)), checksum_of_batch(batch))
        return part

    def examples_in(self, batch: Any) -> int:
        """How many rows a whole batch has. Raises `UserError` if that cannot be told."""
        sizes = _sizes(batch, is_whole=True) or set()
        if len(sizes) != 1:
            self._refuse(f"a batch holds {form_of(batch)} with {sorted(sizes) or 'no'} examples, as one takes it")
        return sizes.pop()

    def _count(self, rows: int) -> None:
        self.rows += rows
        self.missed += rows == 0

    def _remember(self, rows: int, checksum: int) -> None:
        self._count(rows)
        self.checksum = zlib.crc32(checksum.to_bytes(4), self.checksum)

    def part_of(self, nested: Any, examples: int) -> Any:
        """This process's part of what may hold something for each of so many rows, however nested."""
        if isinstance(nested, ARRAYS):
            return self.of(nested) if nested.ndim else nested
        if isinstance(nested, MutableMapping):
            part = copy.copy(nested)
            for key, value in nested.items():
                part[key] = self.part_of(value, examples)
            return part
        if not isinstance(nested, list | tuple) or (examples == 1 and self.rank == 0):
            return nested
        if len(nested) == examples and not hasattr(nested, "_fields"):  # a part for each example, or for each kind?
            is_by_kind = examples in (_common_sizes(nested) or ())
            if is_by_kind and len({_form(part) for part in nested}) == 1:
                self._refuse(f"a batch of {examples} holds a {type(nested).__name__} of {examples} things alike")
            if not is_by_kind:
                return self.of(nested)
        parts = [self.part_of(part, examples) for part in nested]
        return type(nested)(*parts) if hasattr(nested, "_fields") else type(nested)(parts)

    def _refuse(self, what: str) -> NoReturn:
        raise UserError(
            f"{what}: what belongs to which example cannot be told, so {self.count} processes cannot share it; a "
            "map-style data set in a plain DataLoader is shared out row by row, whatever its batches look like"
        )


def without_rows(batch: Any) -> Any:
    """A batch like this one, of no rows. Raises `UserError` if it cannot be told what belongs to which of its own."""
    examples = Share().examples_in(batch)
    return Share(examples, examples + 1).part_of(batch, examples)


def _sizes(nested: Any, is_whole: bool = False) -> set[int] | None:
    """How many examples this may be of, one number where that is sure; None where it says nothing of them.

    A whole batch has a part for each kind of thing, such as inputs and labels; a list in it may have one for each
    example.
    """
    if isinstance(nested, ARRAYS):
        return {len(nested)} if nested.ndim else None
    if isinstance(nested, MutableMapping):
        return _common_sizes(nested.values())
    if isinstance(nested, list | tuple):
        sizes = _common_sizes(nested)
        is_for_each = not is_whole and not hasattr(nested, "_fields") and any(_holds_arrays(part) for part in nested)
        return (sizes or set()) | {len(nested)} if is_for_each else sizes
    return None if nested is None or isinstance(nested, str | bytes | int | float) else set()


def _common_sizes(parts: Iterable[Any]) -> set[int] | None:
    """How many examples all parts may be of."""
    known = [sizes for sizes in map(_sizes, parts) if sizes is not None]
    return set.intersection(*known) if known else None


def _holds_arrays(nested: Any) -> bool:
    if isinstance(nested, MutableMapping | list | tuple):
        return any(map(_holds_arrays, nested.values() if isinstance(nested, MutableMapping) else nested))
    return isinstance(nested, ARRAYS)


def _form(part: Any) -> str:
    """What two parts of a list have in common where each may belong to an example."""
    if isinstance(part, ARRAYS):
        return f"{part.dtype}, {part.ndim} dimensions"
    return f"{sorted(part)}" if isinstance(part, MutableMapping) else type(part).__name__


def checksum_of(rows: Any) -> int:
    """A number that tells what was asked for in a batch."""
    if isinstance(rows, Tensor):
        return zlib.crc32(rows.cpu().numpy().tobytes())
    return zlib.crc32(repr(rows).encode())


def checksum_of_batch(batch: Any) -> int:
    """A number that tells what a batch holds, of its tensors as far as the first numbers of each."""
    checksum = 0
    for tensor in tensors_in(batch):
        numbers = tensor.detach().reshape(-1)[:LOOKED_AT].cpu().contiguous().view(torch.uint8).numpy()
        checksum = zlib.crc32(repr(tuple(tensor.shape)).encode() + numbers.tobytes(), checksum)
    return checksum
