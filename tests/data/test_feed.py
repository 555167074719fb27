"""The batches of an epoch follow from (seed, epoch), wherever one begins and however many processes make them."""

import functools
import itertools
import random
import re
from collections import deque

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from engine.data.batches import TensorBatches
from engine.data.feed import Feed, SamePass
from engine.errors import UserError
from tests.support.folders import same

COUNT = 23


class Noisy(Dataset):
    """Each item is its index beside numbers from all three generators, as an augmentation draws them."""

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return index, torch.rand(2), np.random.random(), random.random()


class NoisyInOneGo(Noisy):
    """The same, for loaders that ask for a whole batch of items."""

    def __getitems__(self, indices):
        return [self[index] for index in indices]


class Stream(IterableDataset):
    """Items that come one after the other."""

    def __iter__(self):
        return ((index, torch.rand(2)) for index in range(COUNT))


class Batches:
    """Anything that iterates, in an order of its own."""

    def __init__(self, length=COUNT):
        self.length = length

    def __iter__(self):
        return (torch.tensor([index, random.random()]) for index in np.random.permutation(self.length))


class CountedBatches(Batches):
    """The same, that knows how many they are."""

    def __len__(self):
        return self.length


class Cycle:
    """A sampler over something long, that counts how often it is asked."""

    drawn = 0

    def __init__(self, make):
        self.make = make
        Cycle.drawn = 0

    def __iter__(self):
        for number in self.make():
            Cycle.drawn += 1
            yield number % COUNT


class Lazy:
    """Indices that are made as they are asked for."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __iter__(self):
        return iter(range(self.length))


def weighted(**options):
    return WeightedRandomSampler([1.0] * 5 + [0.1] * (COUNT - 5), num_samples=COUNT, **options)


def in_memory(shuffle=True):
    return TensorBatches(
        torch.arange(COUNT),
        torch.arange(COUNT),
        batch_size=4,
        shuffle=shuffle,
        transform=lambda numbers: numbers + torch.rand(1),
    )


LOADERS = {
    "resident": in_memory,
    "shuffle": lambda: DataLoader(Noisy(), batch_size=4, shuffle=True),
    "in one go": lambda: DataLoader(NoisyInOneGo(), batch_size=4, shuffle=True),
    "drop_last": lambda: DataLoader(Noisy(), batch_size=4, shuffle=True, drop_last=True),
    "own generator": lambda: DataLoader(Noisy(), batch_size=4, shuffle=True, generator=torch.Generator()),
    "weighted sampler": lambda: DataLoader(Noisy(), batch_size=4, sampler=weighted()),
    "generator of the sampler": lambda: DataLoader(
        Noisy(), batch_size=4, sampler=weighted(generator=torch.Generator())
    ),
    "sampler of batches": lambda: DataLoader(Noisy(), batch_sampler=BatchSampler(RandomSampler(Noisy()), 4, False)),
    "generator of a sampler of batches": lambda: DataLoader(
        Noisy(), batch_sampler=BatchSampler(RandomSampler(Noisy(), generator=torch.Generator()), 4, False)
    ),
    "list of batches": lambda: DataLoader(Noisy(), batch_sampler=[[0, 1], [2], [3, 4, 5]]),
    "one by one": lambda: DataLoader(Noisy(), batch_size=None, shuffle=True),
    "sampler of index lists": lambda: DataLoader(
        TensorDataset(torch.arange(COUNT)),
        batch_size=None,
        sampler=BatchSampler(RandomSampler(range(COUNT)), 4, False),
    ),
    "stream": lambda: DataLoader(Stream(), batch_size=4),
    "anything that iterates": CountedBatches,
}
LENGTHS = {"stream": 6}
every_loader = pytest.mark.parametrize("kind", LOADERS)


def indices(batch):
    """Which examples a batch of these loaders holds."""
    return torch.as_tensor(batch[0]).long().flatten()


def feed_of(kind, seed=230, max_batches=None):
    return Feed(LOADERS[kind](), seed, max_batches or LENGTHS.get(kind))


@every_loader
def test_an_epoch_is_the_same_whenever_it_is_asked_for(kind):
    feed, again = feed_of(kind), feed_of(kind)
    epochs = [list(feed.epoch(epoch)) for epoch in range(3)]
    torch.rand(5), np.random.random(), random.random()
    assert same(list(again.epoch(2)), epochs[2])
    assert same(list(again.epoch(0)), epochs[0])
    assert same(list(feed.epoch(1)), epochs[1])
    assert {len(batches) for batches in epochs} == {len(feed)}


@every_loader
def test_epochs_and_seeds_differ(kind):
    feed = feed_of(kind)
    first = list(feed.epoch(0))
    assert not same(first, list(feed.epoch(1)))
    assert not same(first, list(feed_of(kind, seed=1).epoch(0)))


@every_loader
@pytest.mark.parametrize("start", [0, 1, 3])
def test_a_later_start_gives_the_rest_of_the_same_epoch(kind, start):
    feed = feed_of(kind)
    assert same(list(feed.epoch(1, start)), list(feed.epoch(1))[start:])


@every_loader
def test_what_the_network_draws_between_batches_is_the_same_too(kind):
    def drawn(start):
        return [(torch.rand(1).item(), np.random.random(), random.random()) for _ in feed_of(kind).epoch(1, start)]

    assert drawn(0)[2:] == drawn(2)
    assert len(set(drawn(0))) == len(drawn(0))


@every_loader
def test_what_the_network_draws_does_not_change_the_batches(kind):
    feed = feed_of(kind)
    batches = []
    for batch in feed.epoch(1):
        batches.append(batch)
        torch.rand(3), np.random.random(), random.random()
    assert same(batches, list(feed.epoch(1)))


@every_loader
def test_max_batches_takes_the_same_examples_each_epoch(kind):
    feed = feed_of(kind, max_batches=2)
    assert len(feed) == 2

    def examples(epoch):
        return [indices(batch).tolist() for batch in feed.epoch(epoch)]

    assert examples(0) == examples(1) == examples(5)


@every_loader
@pytest.mark.parametrize("length", [2, 9])
def test_an_epoch_may_be_a_stretch_of_the_walk_through_the_data(kind, length):
    def stretches(loader):
        return Feed(loader, 230, LENGTHS.get(kind), batches_per_epoch=length)

    feed, passes = stretches(LOADERS[kind]()), feed_of(kind)
    walk = [batch for number in range(7) for batch in passes.epoch(number)]
    epochs = [list(feed.epoch(epoch)) for epoch in range(7 * len(passes) // length)]
    assert same([batch for epoch in epochs for batch in epoch], walk[: len(epochs) * length])
    assert same(list(stretches(LOADERS[kind]()).epoch(1, 1)), epochs[1][1:])


def test_a_stream_without_a_length_may_have_steps_per_epoch():
    feed = Feed(Batches(5), 230, batches_per_epoch=3)
    walk = [batch for epoch in range(4) for batch in feed.epoch(epoch)]
    assert sorted(batch[0].item() for batch in walk[5:10]) == list(range(5))
    assert same(list(Feed(Batches(5), 230, batches_per_epoch=3).epoch(3, 1)), walk[10:])


def test_an_iterator_that_is_used_up_is_refused():
    feed = Feed(iter([torch.ones(1)] * 4), 230, batches_per_epoch=3)
    list(feed.epoch(0))
    with pytest.raises(UserError, match="only once"):
        list(feed.epoch(1))


class Miscounting(Batches):
    """Batches that say there are 5."""

    def __len__(self):
        return 5


class MiscountingStream(Stream):
    """The same for items of a stream."""

    def __len__(self):
        return 40


@pytest.mark.parametrize(
    ("loader", "options", "said", "given"),
    [
        (Miscounting(3), {}, r"len() of the training batches says 5, but pass 1 gave 3", 3),
        (Miscounting(3), {"max_batches": 4}, r"len() of the training batches says 4, but pass 1 gave 3", 3),
        (Miscounting(7), {}, r"len() of the training batches says 5, but pass 1 goes on beyond them", 7),
        (DataLoader(MiscountingStream(), 4), {}, r"len() of the training batches says 10, but pass 1 gave 6", 6),
        (Batches(3), {"max_batches": 4}, '"max_train_batches" says 4, but pass 1 gave 3', 3),
    ],
    ids=["shorter", "max_train_batches", "longer", "a stream with len", "a stream without"],
)
class TestPassesThatAreNotAsLongAsTheySay:
    def test_all_of_their_batches_are_trained_on_and_it_is_said_once(self, loader, options, said, given, caplog):
        feed = Feed(loader, 230, **options)
        epochs = [list(feed.epoch(epoch)) for epoch in range(3)]
        assert [len(epoch) for epoch in epochs] == [given] * 3
        assert same(list(feed.epoch(1, 2)), epochs[1][2:])
        assert [said in record.message for record in caplog.records if "says" in record.message] == [True]

    @pytest.mark.parametrize("start", [0, 2, 3])
    def test_where_to_go_on_would_be_counted_by_it_they_are_refused(self, loader, options, said, given, start):
        with pytest.raises(UserError, match=re.escape(said)):
            list(Feed(loader, 230, **options, batches_per_epoch=20).epoch(0, start))


class OwnLengths(BatchSampler):
    """A batch sampler whose passes are of 3 to 6 batches, and whose len() says 4."""

    def __init__(self):
        super().__init__(range(COUNT), 4, False)

    def __len__(self):
        return 4

    def __iter__(self):
        return (list(range(number, number + 2)) for number in range(random.randint(3, 6)))


def test_where_batches_can_be_planned_a_stretch_of_passes_of_any_length_begins_where_the_last_one_ended():
    def stretches():
        return Feed(DataLoader(Noisy(), batch_sampler=OwnLengths()), 230, batches_per_epoch=5)

    passes = Feed(DataLoader(Noisy(), batch_sampler=OwnLengths()), 230)
    lengths = [len(list(passes.epoch(number))) for number in range(8)]
    assert len(set(lengths)) > 1
    walk = [batch for number in range(8) for batch in passes.epoch(number)]
    feed = stretches()
    assert same([batch for epoch in range(4) for batch in feed.epoch(epoch)], walk[:20])
    for epoch in range(4):
        assert same(list(stretches().epoch(epoch, 2)), walk[5 * epoch + 2 : 5 * epoch + 5])


class TestPassesThatNeverEnd:
    """Told from long ones in finite time."""

    @pytest.mark.parametrize("training", [True, False])
    def test_are_refused_where_they_say_how_long_they_are(self, training):
        class Endless(Miscounting):
            def __iter__(self):
                return itertools.repeat(torch.ones(1))

        loader = Endless()
        told = (
            r'says 5, but a pass goes on and on; "steps_per_epoch"' if training else 'val goes on.*"max_eval_batches"'
        )
        with pytest.raises(UserError, match=told):
            deque(Feed(loader, 230).epoch(0) if training else SamePass(loader, 230, "val"), maxlen=0)

    def test_are_refused_in_evaluation_where_only_the_data_say_how_many_there_are(self):
        evaluated = SamePass(DataLoader(Noisy(), 4, sampler=Cycle(itertools.count)), 230, "val")
        with pytest.raises(UserError, match="val goes on and on: 231 batches, where 23 are the most to come"):
            deque(evaluated, maxlen=0)

    def test_are_told_in_evaluation_where_nobody_knows(self, caplog):
        stream = SamePass(itertools.repeat(torch.ones(1)), 230, "test")
        deque(itertools.islice(stream, 20_000), maxlen=0)
        assert caplog.messages == [
            'test has no len(), and gave 10,000 batches so far; "max_eval_batches" (of evaluate.py: '
            "--max_eval_batches) is for one without end"
        ]

    @pytest.mark.parametrize("sampler", [lambda: itertools.count(), lambda: Lazy(10**7), lambda: range(10**9)])
    def test_cost_no_more_than_what_is_taken_of_them(self, sampler):
        feed = Feed(DataLoader(Noisy(), 2, sampler=Cycle(sampler)), 230, batches_per_epoch=3)
        walk = [batch for epoch in range(2) for batch in feed.epoch(epoch)]
        assert torch.cat([indices(batch) for batch in walk]).tolist() == list(range(12))
        again = Feed(DataLoader(Noisy(), 2, sampler=Cycle(sampler)), 230, batches_per_epoch=3)
        assert same(list(again.epoch(1, 1)), walk[4:])
        assert Cycle.drawn < 60


# One pass, as for an evaluation


def test_a_pass_of_evaluation_is_the_same_with_any_number_of_workers():
    passes = [list(SamePass(DataLoader(Noisy(), batch_size=4, num_workers=n), 230, "val")) for n in range(3)]
    assert same(passes[0], passes[1])
    assert same(passes[0], passes[2])
    assert torch.cat([indices(batch) for batch in passes[0]]).tolist() == list(range(COUNT))


@every_loader
def test_a_pass_of_evaluation_is_the_same_each_time(kind):
    loader = LOADERS[kind]()
    batches = list(SamePass(loader, 230, "val"))
    torch.rand(5), np.random.random(), random.random()
    assert same(list(SamePass(loader, 230, "val")), batches)
    assert not same(list(SamePass(loader, 1, "val")), batches)


def test_a_pass_of_evaluation_takes_a_plain_list_and_a_stream_as_they_come():
    assert list(SamePass([3, 1, 2], 230, "val")) == [3, 1, 2]
    assert torch.cat([batch[0] for batch in SamePass(DataLoader(Stream(), 4), 230, "val")]).tolist() == list(
        range(COUNT)
    )


def test_each_example_is_there_once():
    for kind in ("resident", "shuffle", "one by one", "sampler of batches"):
        examples = torch.cat([indices(batch) for batch in feed_of(kind).epoch(2)])
        assert sorted(examples.tolist()) == list(range(COUNT))


def test_a_sampler_keeps_its_weights():
    feed = feed_of("weighted sampler")
    drawn = torch.cat([indices(batch) for epoch in range(20) for batch in feed.epoch(epoch)])
    assert (drawn < 5).double().mean() > 0.6


def test_an_array_that_lacks_rows_is_refused():
    with pytest.raises(UserError, match="differ in their number of rows: 5, 4"):
        TensorBatches(torch.ones(5, 2), torch.ones(4), batch_size=2)
    with pytest.raises(UserError, match="4 names for 5 rows"):
        TensorBatches(torch.ones(5), batch_size=2, names=list("abcd"))
    with pytest.raises(UserError, match="5 names for 3 rows"):
        TensorBatches(torch.ones(5), batch_size=2, rows=[0, 2, 4], names=list("abcde"))


@pytest.mark.parametrize(
    "given", [{"image": torch.ones(5)}, ["a", "b"], np.array(["a", "b"])], ids=["dict", "words", "texts"]
)
def test_what_is_no_array_is_told_as_what_it_is(given):
    with pytest.raises(UserError, match=r"^TensorBatches: it holds tensors and arrays, and was given a .*DataLoader"):
        TensorBatches(given, torch.ones(5), batch_size=2)


def test_no_row_is_no_batch():
    batches = TensorBatches(torch.ones(5), batch_size=2, rows=np.array([], dtype=np.int64))
    assert (len(batches), list(batches)) == (0, [])


def test_without_shuffling_the_order_is_that_of_the_data():
    for loader in (in_memory(shuffle=False), DataLoader(Noisy(), batch_size=4)):
        batches = list(Feed(loader, 230).epoch(3))
        assert torch.cat([batch[0].long().flatten() for batch in batches]).tolist() == list(range(COUNT))


def test_items_of_a_batch_draw_unlike_numbers():
    numbers = torch.cat([batch[2] for epoch in range(3) for batch in feed_of("shuffle").epoch(epoch)])
    assert len(set(numbers.tolist())) == 3 * COUNT


@pytest.mark.parametrize("persistent", [False, True], ids=["new workers", "persistent workers"])
def test_the_number_of_workers_does_not_show(persistent):
    def feed(**options):
        return Feed(DataLoader(Noisy(), batch_size=4, shuffle=True, **options), 230)

    alone, helped = feed(), feed(num_workers=2, persistent_workers=persistent)

    def seen(feed, epoch, start):  # with what a network would draw after each batch
        return [(batch, torch.rand(1), np.random.random(), random.random()) for batch in feed.epoch(epoch, start)]

    for epoch, start in ((0, 0), (1, 0), (1, 3)):
        assert same(seen(helped, epoch, start), seen(alone, epoch, start))


def test_workers_keep_the_loaders_own_ways():
    marks = []
    loader = DataLoader(Noisy(), 4, collate_fn=functools.partial(collated, marks), worker_init_fn=None)
    batches = list(Feed(loader, 230).epoch(0))
    assert batches[0] == (0, 4)
    assert len(marks) == len(batches)


def collated(marks, items):
    marks.append(len(items))
    return items[0][0], len(items)


def test_loaders_that_have_no_length_need_max_train_batches():
    for loader in (Batches(), DataLoader(Stream(), batch_size=4)):
        with pytest.raises(UserError, match=r'no len\(\); set "max_train_batches"'):
            Feed(loader, 230)
        assert len(list(Feed(loader, 230, max_batches=3).epoch(1))) == 3


def test_a_loader_without_a_batch_is_refused():
    with pytest.raises(UserError, match="no batch"):
        Feed(DataLoader(Noisy(), batch_size=COUNT + 1, drop_last=True), 230)


class Nothing(IterableDataset):
    def __iter__(self):
        return iter(())


def test_a_stream_that_holds_no_batch_is_refused_before_anything_is_trained():
    with pytest.raises(UserError, match="the val split gave no batch"):
        SamePass(DataLoader(Nothing(), 4), 230, "val")
    batches = SamePass(DataLoader(Nothing(), 4, num_workers=2), 230, "val")  # whose workers start when they are needed
    with pytest.raises(UserError, match="the val split gave no batch"):
        list(batches)


def test_the_first_pass_over_a_stream_is_the_one_whose_first_batch_was_looked_at():
    class Drawing(IterableDataset):
        """Items drawn from the global generators and one of its own; counts how often it is begun."""

        def __init__(self):
            self.generator, self._begun = torch.Generator(), 0

        def __iter__(self):
            self._begun += 1
            for _ in range(10):
                yield torch.rand(()) + torch.rand((), generator=self.generator) + np.random.rand()

    stream = Drawing()
    batches = SamePass(DataLoader(stream, 4), 230, "val")
    assert stream._begun == 1
    torch.rand(100)  # training goes on in between
    passes = [list(batches) for _ in range(3)]
    assert stream._begun == 3
    assert same(passes[0], passes[1])
    assert same(passes[0], passes[2])
    assert len(passes[0]) == 3


def test_the_loader_itself_is_left_as_it_was():
    loader = DataLoader(Noisy(), batch_size=4, sampler=SequentialSampler(range(COUNT)))
    list(Feed(loader, 230).epoch(0))
    assert [batch[0].tolist() for batch in loader][:2] == [[0, 1, 2, 3], [4, 5, 6, 7]]
