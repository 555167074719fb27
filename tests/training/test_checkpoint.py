"""What goes into a checkpoint comes out of it, as it was; what would not is told, by its place, and never written."""

import collections
import random

import numpy as np
import pytest
import torch
from torch import nn

from engine.errors import UserError
from engine.training.checkpoint import load_weights, read_checkpoint, readable, write_checkpoint
from engine.training.metrics import Scores
from engine.training.optimization import Schedule
from engine.training.state import State
from engine.training.together import Together
from tests.support.folders import same

KEPT = {
    "numbers of NumPy": [np.float32(0.1), np.float64(0.1), np.int64(3), np.bool_(True)],
    "arrays": [np.arange(6).reshape(2, 3), np.array(["a", "bc"]), np.zeros(0), np.ones((2, 2), dtype=bool)],
    "tuples": (1, (2.0, "three"), [4, (5,)]),
    "keys": {1: "one", (2, 3): "pair", "words": {0: "<pad>"}},
    "sets": {1, 2},
    "tensors": [torch.arange(3, dtype=torch.uint8), torch.eye(3).to_sparse(), torch.tensor(0.5, dtype=torch.bfloat16)],
    "others": [None, True, 2**70, 1e-300, 1j, b"bytes", torch.float16, torch.device("cpu"), torch.Size([1, 2])],
    "counts": collections.Counter("aab"),
    "in order": collections.OrderedDict(b=1, a=2),
}


def kept(value, folder):
    write_checkpoint({"state_dict": {}, "value": value}, False, folder)
    return read_checkpoint(folder / "last.pth.tar")["value"]


def equal(one, other):
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, torch.Tensor) and one.is_sparse:
        return torch.equal(one.to_dense(), other.to_dense())
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and same(one, other)


@pytest.mark.parametrize("kind", KEPT)
def test_what_is_written_comes_back_as_it_was(tmp_path, kind):
    assert equal(kept(KEPT[kind], tmp_path), KEPT[kind])


def test_dicts_of_other_kinds_come_back_as_dicts(tmp_path):
    state = collections.defaultdict(dict, {0: collections.defaultdict(list, {"steps": [1]})})
    assert kept(state, tmp_path) == {0: {"steps": [1]}}


class Thing:
    """A class of the task."""


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"optim_dict": {"state": {0: {"rule": abs}}}}, "optim_dict.state.0.rule: a builtin_function_or_method"),
        ({"schedule": {"shape": lambda x: x}}, "schedule.shape: a function"),
        ({"learned": [1, {"vocabulary": Thing()}]}, "learned.vocabulary: a Thing"),
        ({"scores": {Thing: 1}}, "scores: a type"),
        ({"generator": random.Random(1)}, "generator: a Random"),
        ({"objects": np.array([Thing(), 1], dtype=object)}, "objects: a ndarray"),
    ],
)
def test_what_could_not_be_read_is_never_written(tmp_path, content, place):
    (tmp_path / "last.pth.tar").write_bytes(b"the one before")
    with pytest.raises(UserError, match=f"^{place} cannot be kept in a checkpoint"):
        write_checkpoint({"state_dict": {}, **content}, True, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pth.tar"]
    assert (tmp_path / "last.pth.tar").read_bytes() == b"the one before"


def test_a_state_dict_keeps_what_torch_notes_on_it():
    state = nn.BatchNorm1d(3).state_dict()
    assert readable(state)._metadata == state._metadata


# Weights


def test_weights_load_as_plain_pytorch_loads_them(tmp_path):
    class Renamed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.register_load_state_dict_pre_hook(self.rename)

        @staticmethod
        def rename(module, state, *_):
            for name in [name for name in state if name.startswith("old.")]:
                state[name.replace("old.", "layer.")] = state.pop(name)

    model, weights = Renamed(), {"old.weight": torch.ones(2, 2), "old.bias": torch.zeros(2)}
    load_weights(model, dict(weights), tmp_path)
    assert torch.equal(model.layer.weight, torch.ones(2, 2))

    norm = nn.BatchNorm1d(2)
    old = {name: value for name, value in norm.state_dict().items() if name != "num_batches_tracked"}
    load_weights(norm, old, tmp_path)

    lazy = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
    known = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    load_weights(lazy, known.state_dict(), tmp_path)
    assert torch.equal(lazy[0].weight, known[0].weight)


def test_weights_of_another_network_are_told_by_their_names(tmp_path):
    class Counting(nn.Linear):
        def get_extra_state(self):
            return {"batches": 3}

        def set_extra_state(self, state):
            self.batches = state["batches"]

    weights = Counting(2, 3).state_dict()
    for model, difference in (
        (nn.Linear(2, 3), "has besides _extra_state"),
        (Counting(2, 4), r"has in another shape weight \(3, 2\) instead of \(4, 2\), bias \(3,\) instead of \(4,\)"),
        (nn.Sequential(nn.Linear(2, 3)), "lacks 0.weight, 0.bias; it has besides weight, bias, _extra_state"),
        (nn.Sequential(nn.LazyLinear(3)), "lacks 0.weight, 0.bias"),
    ):
        with pytest.raises(UserError, match=f"another network than this one: it {difference}"):
            load_weights(model, dict(weights), tmp_path)
    with pytest.raises(UserError, match=r"another network than this one: .*batches"):
        load_weights(Counting(2, 3), {**weights, "_extra_state": {}}, tmp_path)


def test_groups_that_an_optimizer_was_given_on_the_way_come_back(tmp_path):
    """Layers that are thawed one after the other: each run of steps is that of one that was not stopped."""

    def begun():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 3))
        return State(model, torch.optim.SGD(model[1].parameters(), lr=0.1, momentum=0.9), Schedule(), None, Scores({}))

    def take_steps(state):
        for _ in range(3):
            state.optimizer.zero_grad()
            state.model(torch.ones(5, 2)).square().mean().backward()
            state.optimizer.step()

    whole, later = begun(), begun()
    take_steps(whole)
    whole.optimizer.add_param_group({"params": [*whole.model[0].parameters()], "lr": 0.01})
    take_steps(whole)
    write_checkpoint(whole.checkpoint(), False, tmp_path)
    later.restore(read_checkpoint(tmp_path / "last.pth.tar"), tmp_path)
    take_steps(whole)
    take_steps(later)
    assert [group["lr"] for group in later.optimizer.param_groups] == [0.1, 0.01]
    for one, other in zip(whole.model.parameters(), later.model.parameters(), strict=True):
        assert torch.equal(one, other)


class Odd(torch.optim.SGD):
    """Plain SGD that keeps whatever comes to mind, and scales its steps by all of it."""

    def step(self, closure=None):
        super().step(closure)
        for parameter in (p for group in self.param_groups for p in group["params"]):
            kept = self.state[parameter]
            if "array" not in kept:
                kept |= {
                    "array": np.ones(3),
                    "text": "steps: 0",
                    "count": torch.tensor(2**24),
                    "pair": (1, [np.zeros(1)]),
                }
                kept |= {"fine": torch.tensor(1.0, dtype=torch.float64), "step": torch.tensor(0.0), "mask": None}
            kept["array"] = kept["array"] * 1.1
            kept["count"] += 1  # a number that float32 has not
            kept["fine"] = kept["fine"] / 3 + 1e-9
            kept["step"] += 1
            kept["mask"] = parameter.detach() > 0
            kept["text"] = f"steps: {int(kept['text'].split()[-1]) + 1}"
            kept["pair"][1][0] += 0.5
            assert isinstance(kept["pair"], tuple)
            with torch.no_grad():
                parameter.mul_(1 + 1e-3 * (kept["array"].sum() + kept["fine"].item() + kept["count"].item() % 7))
        self.state["of all"] = {"seen": np.int64(self.state.get("of all", {"seen": 0})["seen"] + 1)}


@pytest.mark.parametrize("together", [False, True], ids=["alone", "together with another"])
def test_an_optimizer_has_its_state_back_whatever_is_in_it(tmp_path, together):
    def begun():
        torch.manual_seed(1)
        model = nn.Linear(2, 3)
        odd = Odd([model.weight], lr=0.01, momentum=0.9)
        both = Together(torch.optim.SGD([model.bias], lr=0.01), odd) if together else odd
        return State(model, both, Schedule(), None, Scores({})), odd

    def take_steps(state, count):
        for _ in range(count):
            state.optimizer.zero_grad()
            state.model(torch.ones(5, 2)).square().mean().backward()
            state.optimizer.step()

    (whole, kept), (later, given) = begun(), begun()
    take_steps(whole, 3)
    write_checkpoint(whole.checkpoint(), False, tmp_path)
    later.restore(read_checkpoint(tmp_path / "last.pth.tar"), tmp_path)
    for state in (whole, later):
        take_steps(state, 3)
    assert torch.equal(whole.model.weight, later.model.weight)
    assert given.state["of all"] == kept.state["of all"] == {"seen": 6}
    one, other = kept.state[whole.model.weight], given.state[later.model.weight]
    assert all(equal(one[name], other[name]) for name in one | other)


def test_an_optimizer_with_a_way_of_its_own_to_load_is_left_to_it(tmp_path):
    class Own(torch.optim.SGD):
        def load_state_dict(self, state):
            super().load_state_dict({**state, "state": {}})
            self.loaded = state["state"]

    model = nn.Linear(2, 3)
    state = State(model, Own(model.parameters(), lr=0.1, momentum=0.9), Schedule(), None, Scores({}))
    model(torch.ones(1, 2)).sum().backward()
    state.optimizer.step()
    content = state.checkpoint()
    state.restore(content, tmp_path)
    assert same(state.optimizer.loaded, content["optim_dict"]["state"])

    hooked = State(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), Schedule(), None, Scores({}))
    seen = []
    hooked.optimizer.register_load_state_dict_pre_hook(lambda optimizer, state: seen.append(state["state"]))
    hooked.restore(content, tmp_path)
    assert same(seen, [content["optim_dict"]["state"]])
