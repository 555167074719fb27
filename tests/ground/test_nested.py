"""Batches of any nesting: moved as what they are, and counted by their examples."""

from collections import OrderedDict, UserDict, defaultdict, namedtuple

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from engine.errors import UserError
from engine.nested import count_examples, map_tensors, tensors_in

Pair = namedtuple("Pair", "one other")


class Labels(dict):
    """A dict that is made in a way of its own."""

    def __init__(self, source):
        super().__init__(values=torch.ones(3))
        self.source = source


@pytest.mark.parametrize(
    "nested",
    [
        {"values": torch.ones(3)},
        OrderedDict(values=torch.ones(3)),
        defaultdict(list, values=torch.ones(3)),
        UserDict(values=torch.ones(3)),
        Labels("a file"),
        {"values": [torch.ones(3)]},
        {"values": Pair(torch.ones(3), "name")},
    ],
    ids=lambda nested: type(nested).__name__,
)
def test_a_nesting_keeps_its_kind_and_all_else_that_it_knows(nested):
    doubled = map_tensors(lambda tensor: 2 * tensor, nested)
    assert type(doubled) is type(nested)
    assert list(doubled) == list(nested)
    assert [tensor.tolist() for tensor in tensors_in(doubled)] == [[2.0] * 3]
    assert [tensor.tolist() for tensor in tensors_in(nested)] == [[1.0] * 3]
    assert getattr(doubled, "default_factory", None) is getattr(nested, "default_factory", None)
    assert getattr(doubled, "source", None) == getattr(nested, "source", None)


def test_a_packed_sequence_may_hold_arrays_as_those_reach_metrics():
    packed = pack_sequence([torch.ones(3), torch.zeros(2)])
    arrays = map_tensors(torch.Tensor.numpy, packed)
    assert type(arrays) is type(packed)
    assert arrays.data.tolist() == [1, 0, 1, 0, 1]
    assert arrays.batch_sizes.tolist() == [2, 2, 1]


def of_sizes(*sizes):
    return [torch.zeros(size) for size in sizes]


@pytest.mark.parametrize(
    ("nested", "asked", "count"),
    [
        (torch.zeros(4, 7), None, 4),
        (torch.zeros(4, 7), 4, 4),
        (torch.zeros(4, 7), 9, 4),  # some were left out
        (torch.zeros(30), 4, 30),  # nodes of 4 graphs
        (of_sizes(4, 4), None, 4),  # two labels of each
        (of_sizes(4, 4), 4, 4),
        (of_sizes(5, 2, 3), None, 3),  # one for each of three
        (of_sizes(5, 5, 5), 3, 3),
        ([torch.tensor(1), torch.tensor(0)], None, 2),
        ([{"boxes": torch.zeros(5, 4)}, {"boxes": torch.zeros(2, 4)}], None, 2),
        ([{"boxes": torch.zeros(2, 4)}, {"boxes": torch.zeros(2, 4)}], None, 2),
        ({"words": torch.zeros(4, 7), "lengths": torch.zeros(4)}, 4, 4),
        (tuple(of_sizes(5, 2, 3)), None, 3),  # as tuple(zip(*items)) collates them
        (tuple(of_sizes(1, 30, 5)), 3, 3),
        (tuple(of_sizes(4, 4)), None, 4),
        (tuple(of_sizes(4, 4)), 4, 4),
        (Pair(torch.zeros(4), torch.zeros(9)), None, 4),  # two kinds, by their names
        (np.zeros((4, 7)), 4, 4),
        ([np.zeros(5), np.zeros(2), np.zeros(3)], None, 3),
        ({"words": np.array(["a", "b"]), "length": np.zeros(2)}, None, 2),
        ({"weights": np.zeros(9), "label": torch.zeros(4)}, None, 4),
    ],
    ids=range(21),
)
def test_examples_are_counted(nested, asked, count):
    assert count_examples(nested, asked) == count


def test_where_examples_are_the_second_dimension_the_count_is_asked_for():
    with pytest.raises(
        UserError, match=r"a batch of 4 examples has a tensor of shape \(7, 4\).*return \(total, count\)"
    ):
        count_examples(torch.zeros(7, 4), 4)
    assert count_examples(torch.zeros(4, 4), 4) == 4
