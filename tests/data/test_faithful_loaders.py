"""What a task's own loader yields, and nothing else, is trained on, whatever kind of loader it is."""

import itertools
import json
import multiprocessing
import os
import random
import signal
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, Sampler, Subset, get_worker_info

from engine.data import Feed, SamePass
from engine.errors import UserError
from engine.seeds import derive
from engine.training import Scores, mean_losses
from tests.projects.loaders.data_loader import COUNT, KINDS, WITHOUT_LENGTH, Numbers, Stream
from tests.support import scripts
from tests.support.folders import same, same_results

TAKEN = 9  # of an endless pass


def plain_epoch(loader, epoch):
    """The batches of an epoch as a loop in plain PyTorch gets them, with every generator seeded as the feed says."""
    seed = derive(230, epoch)
    torch.manual_seed(seed), np.random.seed(seed & 0xFFFFFFFF), random.seed(seed)
    for part in (loader, getattr(loader, "sampler", None)):
        if hasattr(part, "set_epoch"):
            part.set_epoch(epoch)
        if isinstance(getattr(part, "generator", None), torch.Generator):
            part.generator.manual_seed(seed)
        if isinstance(getattr(part, "generator", None), np.random.Generator):
            part.generator = np.random.default_rng(seed)
    is_endless = type(getattr(loader, "sampler", None)).__name__ == "Endless"
    return list(itertools.islice(loader, TAKEN) if is_endless else loader)


def examples(batches):
    """How often each example is in some batches."""
    return Counter(int(number) for batch in batches for number in torch.cat([torch.atleast_1d(n) for n in batch[0]]))


def feed_of(kind, num_workers=0):
    if kind == "endless":
        return Feed(KINDS[kind](num_workers), 230, batches_per_epoch=TAKEN)
    return Feed(KINDS[kind](num_workers), 230, max_batches=50 if kind in WITHOUT_LENGTH else None)


every_kind = pytest.mark.parametrize("kind", KINDS)


HELPED = [
    (kind, 2) for kind in KINDS if kind in ("plain", "buckets") or kind.startswith(("stream", "own __", "own _g"))
]


@pytest.mark.parametrize(("kind", "num_workers"), [*((kind, 0) for kind in KINDS), *HELPED])
def test_the_examples_of_an_epoch_are_those_that_plain_pytorch_yields(kind, num_workers):
    feed, plain = feed_of(kind, num_workers), KINDS[kind](num_workers)
    for epoch in range(1 if num_workers or kind == "endless" else 3):
        expected = plain_epoch(plain, epoch)
        seen = examples(feed.epoch(epoch))
        if kind == "draws as it goes":  # in plain PyTorch, from what items have left
            assert seen.total() == examples(expected).total()
        else:
            assert seen == examples(expected)


@pytest.mark.parametrize(("kind", "num_workers"), [*((kind, 0) for kind in KINDS), *HELPED])
def test_an_epoch_begun_anywhere_goes_on_as_it_would_have(kind, num_workers):
    feed = feed_of(kind, num_workers)
    whole = [list(feed.epoch(epoch)) for epoch in range(2)]
    starts = (1, len(whole[1]) - 1, len(whole[1])) if num_workers == 0 else (3,)
    for start in starts:
        assert same(list(feed_of(kind, num_workers).epoch(1, start)), whole[1][start:])


@pytest.mark.parametrize("kind", ["own sampler", "buckets", "endless", "draws as it goes"])
def test_where_batches_can_be_planned_the_number_of_workers_does_not_show(kind):
    assert same(list(feed_of(kind, 2).epoch(1)), list(feed_of(kind, 0).epoch(1)))


TRAINED = (  # by train.py
    ["plain", "own sampler", "batch sampler", "buckets", "weighted", "lists of tensors", "own __iter__"]
    + ["stream", "stream whose workers live on", "endless"]
)


def run_all(folder, kinds, stopping):
    """Train with a loader of each kind; stopped in the middle of a pass and gone on with, if that is asked for."""
    import train
    from tests.projects.loaders import net

    step, calls = net.step, itertools.count(1)

    def counted(model, batch, params):
        if model.training and stopping and next(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(model, batch, params)

    net.step = counted
    for kind in kinds:
        calls = itertools.count(1)
        place = folder / kind.replace(" ", "_")
        place.mkdir(parents=True)
        params = {"task": "tests.projects.loaders", "data_dir": "none", "num_epochs": 2, "kind": kind}
        params |= {"num_workers": 2 if kind in ("buckets", "stream whose workers live on") else 0}
        params |= {"steps_per_epoch": TAKEN} if kind == "endless" else {}
        params |= {"max_train_batches": 50} if kind.startswith("stream") and kind in WITHOUT_LENGTH else {}
        params |= {"batch_size": 4, "learning_rate": 0.01, "seen": str(folder / f"{place.name}.txt")}
        (place / "params.json").write_text(json.dumps(params))
        for _ in range(1 + stopping):
            try:
                train.main(["--model_dir", str(place)])
            except SystemExit as end:
                assert end.code == 128 + signal.SIGTERM


@pytest.mark.processes
def test_runs_with_each_kind_train_on_that_and_end_the_same_when_they_were_stopped(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    undisturbed = ["buckets", "own __iter__", "stream whose workers live on", "endless"]
    assert scripts.call(run_all, whole, undisturbed, False) == 0
    assert scripts.call(run_all, stopped, TRAINED, True) == 0
    for kind in undisturbed:
        name = kind.replace(" ", "_")
        assert (whole / f"{name}.txt").read_text() == (stopped / f"{name}.txt").read_text()
        assert same_results(whole / name, stopped / name)
    for kind in TRAINED:
        seen = Counter(map(int, (stopped / f"{kind.replace(' ', '_')}.txt").read_text().split()))
        num_workers = 2 if kind == "stream whose workers live on" else 0
        if kind != "endless":
            plain = KINDS[kind](num_workers)
            assert seen == examples(plain_epoch(plain, 0)) + examples(plain_epoch(plain, 1))


# What parts of a loader are told, and what they see


class TellsItsWorkers(Dataset):
    """Items that say what the worker's own data set was told."""

    def __init__(self):
        self.told = "nothing"
        self.generator = np.random.default_rng()

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.told, float(self.generator.random())


def tell(number):
    dataset = get_worker_info().dataset
    assert isinstance(dataset, TellsItsWorkers)
    dataset.told = "something"


METHODS = [method for method in ("forkserver", "fork", "spawn") if method in multiprocessing.get_all_start_methods()]


@pytest.mark.parametrize("method", METHODS[:2])
def test_a_worker_meets_the_data_set_of_the_task(method):
    loader = DataLoader(
        TellsItsWorkers(), 2, num_workers=2, worker_init_fn=tell, collate_fn=list, multiprocessing_context=method
    )
    batches = list(Feed(loader, 230).epoch(0))
    assert [item[0] for batch in batches for item in batch] == ["something"] * 6


def test_a_generator_that_a_data_set_or_a_sampler_holds_is_seeded_like_the_others():
    def items(num_workers, start=0):
        feed = Feed(DataLoader(Subset(TellsItsWorkers(), range(6)), 2, num_workers=num_workers, collate_fn=list), 230)
        return list(feed.epoch(1, start))

    assert items(2) == items(0)
    assert items(0, 2) == items(0)[2:]
    assert len({item[1] for batch in items(0) for item in batch}) == 6


class Told(Sampler):
    """A sampler that notes the passes it is told of."""

    def __init__(self):
        self.epochs = []

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def __len__(self):
        return 4

    def __iter__(self):
        return iter(range(4))


@pytest.mark.parametrize("batches", [False, True])
@pytest.mark.parametrize(("options", "told"), [({}, [0, 1, 2, 5]), ({"max_batches": 1}, [0, 0, 0, 0])])
def test_a_sampler_is_told_the_number_of_the_pass(batches, options, told):
    sampler = Told()
    loader = (
        DataLoader(Numbers(), batch_sampler=BatchSampler(sampler, 2, False))
        if batches
        else DataLoader(Numbers(), 2, sampler=sampler)
    )
    for epoch in (0, 1, 2, 5):
        list(Feed(loader, 230, **options).epoch(epoch))
    assert sampler.epochs == told


class Counts(Told):
    """A sampler that counts its passes for itself."""

    def __init__(self):
        super().__init__()
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        return super().__iter__()


class CountsForItself(IterableDataset):
    """A stream that does."""

    passes = 0

    def __init__(self):
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        return iter(range(6))


@pytest.mark.parametrize(
    ("loader", "what"),
    [
        (DataLoader(Numbers(), 2, sampler=Counts()), "Counts.passes was 0 and is 1"),
        (DataLoader(CountsForItself(), 2), "CountsForItself.passes was 0 and is 1"),
    ],
    ids=["sampler", "stream"],
)
def test_what_remembers_its_passes_is_told_once(loader, what, caplog):
    feed = Feed(loader, 230, max_batches=50)
    for epoch in range(3):
        list(feed.epoch(epoch))
    assert [what in record.message for record in caplog.records if "remembers" in record.message] == [True]


@pytest.mark.parametrize("kind", KINDS)
def test_what_remembers_nothing_is_not(kind, caplog):
    feed = feed_of(kind)
    for epoch in range(2):
        list(feed.epoch(epoch))
    assert "remembers" not in caplog.text


def test_no_more_is_drawn_from_a_sampler_than_is_trained_on():
    class Drawn(Told):
        drawn = 0

        def __iter__(self):
            for number in range(10**7):
                Drawn.drawn += 1
                yield number % COUNT

        def __len__(self):
            return 10**7

    feed = Feed(DataLoader(Numbers(), 2, sampler=Drawn()), 230, max_batches=3)
    assert len(list(feed.epoch(0))) == 3
    assert Drawn.drawn <= 8


def test_what_is_made_on_the_fly_differs_from_split_to_split():
    class Made(Numbers):
        def __getitem__(self, index):
            return torch.rand(4)

    train, val, test = (
        torch.cat(list(batches)).flatten().tolist()
        for batches in (
            Feed(DataLoader(Made(), 4), 230).epoch(0),
            SamePass(DataLoader(Made(), 4), 230, "val"),
            SamePass(DataLoader(Made(), 4), 230, "test"),
        )
    )
    assert len({*train, *val, *test}) == 3 * 4 * COUNT


class Copied(IterableDataset):
    """A stream that each worker gives the whole of."""

    def __iter__(self):
        return iter(range(8))


def test_a_stream_that_each_worker_gives_the_whole_of_is_told(caplog):
    feed = Feed(DataLoader(Copied(), 2, num_workers=2), 230, max_batches=50)
    assert Counter(torch.cat(list(feed.epoch(0))).tolist()) == dict.fromkeys(range(8), 2)  # as PyTorch does it
    list(feed.epoch(1))
    assert sum("each example comes 2 times" in record.message for record in caplog.records) == 1
    caplog.clear()
    list(Feed(DataLoader(Stream(), 2, num_workers=2), 230, max_batches=50).epoch(0))
    assert "comes 2 times" not in caplog.text


def test_a_split_that_holds_no_batch_is_told_before_anything_is_trained():
    few = DataLoader(Numbers(), COUNT + 1, drop_last=True)
    with pytest.raises(UserError, match="the val split holds no batch; is batch_size larger than the data"):
        SamePass(few, 230, "val")


# How many examples a mean is over


def ragged_sets(count):
    return [(torch.full((1,), float(n)), torch.full((n % 5 + 1,), float(n))) for n in range(count)]


def as_lists(items):
    """Collation that leaves a batch a list of tensors."""
    return torch.stack([item[0] for item in items]), [item[1] for item in items]


def of_examples(outputs, labels):
    return sum(abs(output - label.mean()) for output, label in zip(outputs[:, 0], labels, strict=True)) / len(labels)


def test_the_mean_over_lists_of_tensors_is_that_over_the_examples():
    examples = ragged_sets(7)
    batches = SamePass(DataLoader(examples, 3, collate_fn=as_lists), 230, "val")
    scores = Scores({"error": lambda outputs, labels: of_examples(outputs + 1, labels).item()})
    for inputs, labels in batches:
        outputs = inputs * 2
        losses = mean_losses(of_examples(outputs, labels), outputs, labels, batches.examples)
        scores.add(losses, outputs, labels, batches.examples)
    each = [abs(2 * inputs - labels.mean()).item() for inputs, labels in examples]
    assert scores.compute()["loss"] == pytest.approx(sum(each) / 7)
    assert scores.compute()["error"] == pytest.approx(sum(value + 1 for value in each) / 7)


@pytest.mark.parametrize("counted", [False, True])
def test_batches_that_have_time_first_are_scored_by_total_and_count_or_refused(counted):
    """(T, B): the mean over the batch could be over either."""
    sequences = [(torch.randn(length), torch.randn(length)) for length in (5, 5, 5, 2, 2, 2, 6)]

    def time_first(items):
        return tuple(torch.stack(part, dim=1) for part in zip(*items, strict=True))

    batches = SamePass(DataLoader(sequences, 3, collate_fn=time_first), 230, "val")
    scores = Scores({})

    def score():
        for inputs, labels in batches:
            squares = (inputs - labels) ** 2
            loss = (squares.sum(), labels.numel()) if counted else squares.mean()
            scores.add(mean_losses(loss, inputs, labels, batches.examples), inputs, labels, batches.examples)

    if not counted:
        with pytest.raises(UserError, match=r"a batch of 3 examples has a tensor of shape \(5, 3\)"):
            score()
        return
    score()
    everything = torch.cat([(inputs - labels) ** 2 for inputs, labels in sequences])
    assert scores.compute()["loss"] == pytest.approx(everything.mean().item())


# Workers that are not forked


class Scaled(Dataset):
    """Items under a factor that the task may change from pass to pass."""

    def __init__(self, factor=1):
        self.factor = factor
        self.values = torch.arange(4)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return os.getpid(), int(self.values[index]) * self.factor


def test_workers_that_are_not_forked_live_on_until_their_data_set_is_changed():
    dataset = Scaled()
    loader = DataLoader(dataset, 2, num_workers=1, multiprocessing_context=METHODS[0], collate_fn=list)
    feed = Feed(loader, 230)

    def workers_and_values(epoch):
        items = [item for batch in feed.epoch(epoch) for item in batch]
        return {item[0] for item in items}, [item[1] for item in items]

    first, values = workers_and_values(0)
    assert values == [0, 1, 2, 3]
    assert workers_and_values(1) == (first, values)
    dataset.factor = 10
    second, values = workers_and_values(2)
    assert (second & first, values) == (set(), [0, 10, 20, 30])
    dataset.values += 1  # shared, not sent
    assert workers_and_values(3)[1] == [10, 20, 30, 40]
