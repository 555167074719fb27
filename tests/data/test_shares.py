"""The share of a process: every row of a batch is in one share, and what cannot be shared out is refused."""

import itertools
from collections import UserDict, namedtuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, TensorDataset

from engine.data import EMPTY, Feed, SamePass, Share, TensorBatches
from engine.errors import UserError

Pair = namedtuple("Pair", "inputs labels")
COUNTS = (1, 2, 3, 5)


def shares_of(count):
    return [Share(rank, count) for rank in range(count)]


def cut(batch, count=2):
    return [share.cut(batch) for share in shares_of(count)]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("rows", [list(range(7)), torch.arange(7), np.arange(7), tuple(range(7)), range(7)])
def test_each_row_is_in_one_share(rows, count):
    parts = [[int(row) for row in share.of(rows)] for share in shares_of(count)]
    assert sorted(itertools.chain(*parts)) == list(range(7))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_first_process_is_never_without_a_row():
    assert [list(share.of([8])) for share in shares_of(3)] == [[8], [], []]


def test_the_first_process_draws_as_one_alone_and_the_others_each_for_themselves():
    alone, seeds = Share().seed(230, 4), [share.seed(230, 4) for share in shares_of(3)]
    assert seeds[0] == alone
    assert len(set(seeds)) == 3


class Numbers(Dataset):
    """Each item is its index, and a number drawn at random."""

    def __len__(self):
        return 17

    def __getitem__(self, index):
        return torch.tensor(index), torch.rand(())


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(torch.arange(17), torch.rand(17), strict=True)


LOADERS = {
    "tensors": lambda: TensorBatches(torch.arange(17), torch.rand(17), batch_size=4, shuffle=True),
    "items": lambda: DataLoader(Numbers(), 4, shuffle=True),
    "workers": lambda: DataLoader(Numbers(), 4, shuffle=True, num_workers=2),
    "batch_sampler": lambda: DataLoader(Numbers(), batch_sampler=[[0, 1, 2], [3], list(range(4, 17))]),
    "whole_batches": lambda: DataLoader(
        [(torch.arange(n, n + 4), torch.ones(4)) for n in range(0, 16, 4)], batch_size=None
    ),
    "stream": lambda: DataLoader(Stream(), 4),
}


@pytest.mark.parametrize("count", COUNTS[1:])
@pytest.mark.parametrize("kind", LOADERS)
def test_the_shares_of_a_pass_are_the_whole_of_it_in_the_same_batches(kind, count):
    """From the middle on, too, where a run is gone on with by other processes."""
    for start in (0, 2):
        whole = [batch[0].tolist() for batch in Feed(LOADERS[kind](), 230, 10).epoch(1, start)]
        feeds = [Feed(LOADERS[kind](), 230, 10, share=share) for share in shares_of(count)]
        passes = zip(*(feed.epoch(1, start) for feed in feeds), strict=True)
        rows = [[[] if part is EMPTY else part[0].tolist() for part in parts] for parts in passes]
        assert [[parts[row % count][row // count] for row in range(sum(map(len, parts)))] for parts in rows] == whole


@pytest.mark.parametrize("kind", ["items", "workers"])
def test_processes_draw_their_items_apart_and_the_same_ones_each_time(kind):
    def drawn(rank):
        shares = SamePass(LOADERS[kind](), 230, "val", Share(rank, 2))
        return [number for part in shares if part is not EMPTY for number in part[1].tolist()]

    assert drawn(0) == drawn(0)
    assert drawn(1) == drawn(1)
    assert not set(drawn(0)) & set(drawn(1))


def test_the_network_draws_apart_in_each_process():
    def drawn(rank):
        return [torch.rand(()).item() for _ in SamePass(LOADERS["stream"](), 230, "val", Share(rank, 2))]

    assert drawn(0) == [torch.rand(()).item() for _ in SamePass(LOADERS["stream"](), 230, "val")]
    assert not set(drawn(0)) & set(drawn(1))


@pytest.mark.parametrize(
    "batch",
    [
        (torch.arange(5), torch.arange(5)),
        [torch.arange(5), ["a", "b", "c", "d", "e"]],
        {"inputs": torch.zeros(5, 3), "names": list("abcde"), "rate": 0.5, "scale": torch.tensor(2.0)},
        Pair(torch.zeros(5, 2), {"class": torch.arange(5), "none": None}),
        UserDict(inputs=torch.zeros(5, 3)),
        (tuple(torch.zeros(3, size, 4) for size in range(5)), [{"boxes": torch.zeros(size, 4)} for size in range(5)]),
        ([torch.zeros(3, 4)] * 5, torch.arange(5)),
    ],
)
def test_a_whole_batch_is_cut_by_its_examples(batch):
    def size(part):
        values = part.values() if hasattr(part, "values") else part
        return len(next(iter(values)))

    first, second = cut(batch)
    assert (size(first), size(second)) == (3, 2)
    assert type(first) is type(batch)


def test_words_and_tensors_are_cut_alike():
    first, second = cut({"inputs": torch.arange(5), "names": list("abcde")})
    assert (first["inputs"].tolist(), first["names"]) == ([0, 2, 4], ["a", "c", "e"])
    assert (second["inputs"].tolist(), second["names"]) == ([1, 3], ["b", "d"])


@pytest.mark.parametrize(
    "batch",
    [
        (torch.zeros(5, 3), torch.zeros(2, 12)),  # the edges of graphs
        (torch.zeros(7, 5), torch.zeros(5)),  # time first
        [torch.zeros(3, 8, 8), torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)],  # three images, or three kinds of three
        (torch.zeros(4, 2), object()),
        [{"boxes": torch.zeros(2, 4)}, {"boxes": torch.zeros(2, 4)}],
    ],
)
def test_what_cannot_be_cut_is_refused_not_cut_wrongly(batch):
    with pytest.raises(UserError, match="cannot be told"):
        cut(batch)


def test_of_one_process_nothing_is_cut_or_refused():
    batch = (torch.zeros(4, 2), object())
    assert Share().cut(batch) is batch


def test_a_sampler_that_shares_out_by_itself_is_refused():
    data = TensorDataset(torch.arange(10))
    loader = DataLoader(data, 2, sampler=DistributedSampler(data, 2, 0))
    with pytest.raises(UserError, match="leave DistributedSampler out"):
        Feed(loader, 230, share=Share(0, 2))


@pytest.mark.parametrize("kind", LOADERS)
def test_a_checksum_tells_batches_apart(kind):
    def checksums(seed):
        shares = shares_of(2)
        for share in shares:
            list(Feed(LOADERS[kind](), seed, 10, share=share).epoch(0))
        return [share.checksum for share in shares]

    first, second = checksums(230)
    assert first == second
    if kind not in ("batch_sampler", "whole_batches"):
        assert checksums(1)[0] != first
