"""The points as loaders with `state_dict` and `load_state_dict`: one made by hand, and torchdata's over streams."""

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from engine.data import TensorBatches
from tests.projects.points.data_loader import points


class ByHand:
    """Batches in an order drawn for each pass from a generator of its own; counts passes, and the batches it made."""

    def __init__(self, batch_size):
        self.inputs, self.labels = points("train")
        self.batch_size = batch_size
        self.randomness = np.random.default_rng(1)
        self.passes, self.position, self.order = 0, 0, []
        self.goes_on = False
        self.made = 0

    def __len__(self):
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self):
        if not self.goes_on:
            self.passes, self.position = self.passes + 1, 0
            self.order = self.randomness.permutation(len(self.labels)).tolist()
        self.goes_on = False
        while self.position < len(self.order):
            yield self.batch()

    def batch(self):
        rows = self.order[self.position : self.position + self.batch_size]
        self.position, self.made = self.position + len(rows), self.made + 1
        inputs = torch.from_numpy(self.inputs[rows]) + 0.01 * self.passes + 0.1 * torch.randn(len(rows), 2)
        return inputs, torch.from_numpy(self.labels[rows])

    def state_dict(self):
        kept = {"passes": self.passes, "position": self.position, "order": self.order}
        return {**kept, "randomness": self.randomness.bit_generator.state}

    def load_state_dict(self, state):
        self.passes, self.position, self.order = state["passes"], state["position"], state["order"]
        self.randomness.bit_generator.state = state["randomness"]
        self.goes_on = True


class Lasting(ByHand):
    """It is where it is: each iterator goes on from there, and begins a pass only after the end of one."""

    def __iter__(self):
        if self.position == 0:
            self.passes += 1
            self.order = self.randomness.permutation(len(self.labels)).tolist()
        while self.position < len(self.order):
            yield self.batch()
        self.position = 0


class Stream(IterableDataset):
    """The points one after the other, shared out among workers, with noise from a generator that lives on."""

    def __init__(self):
        self.inputs, self.labels = points("train")
        self.randomness = torch.Generator().manual_seed(1)

    def __iter__(self):
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return Walk(self, range(first, len(self.labels), step))


class Walk:
    """An iterator that says where it is."""

    def __init__(self, stream, rows):
        self.stream, self.rows = stream, rows
        self.done = 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.done == len(self.rows):
            raise StopIteration
        row = self.rows[self.done]
        self.done += 1
        noise = torch.randn(2, generator=self.stream.randomness)
        noise += torch.randn(2) if get_worker_info() is None else 0  # from the global one, too
        return torch.from_numpy(self.stream.inputs[row]) + 0.1 * noise, self.stream.labels[row]

    def state_dict(self):
        return {"done": self.done, "randomness": self.stream.randomness.get_state()}

    def load_state_dict(self, state):
        self.done = state["done"]
        self.stream.randomness.set_state(state["randomness"])


class Silent(IterableDataset):
    """A stream without a state, in an order drawn as it begins."""

    def __iter__(self):
        inputs, labels = points("train")
        for index in torch.randperm(len(labels)).tolist():
            yield torch.from_numpy(inputs[index]), labels[index]


class Points(Dataset):
    """A map-style data set whose items are varied as they are fetched."""

    def __init__(self):
        self.inputs, self.labels = points("train")

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return torch.from_numpy(self.inputs[index]) + 0.1 * torch.randn(2), self.labels[index]


def torchdatas(dataset, *arguments, **options):
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(dataset, *arguments, **options)


KINDS = {
    "by hand": lambda size: ByHand(size),
    "by hand, lasting": lambda size: Lasting(size),
    "stream": lambda size: torchdatas(Stream(), size),
    "stream of two workers": lambda size: torchdatas(Stream(), size, num_workers=2),
    "stream of two workers that live on": lambda size: torchdatas(
        Stream(), size, num_workers=2, persistent_workers=True, snapshot_every_n_steps=3
    ),
    "without a state": lambda size: torchdatas(Silent(), size),
    "map-style": lambda size: torchdatas(Points(), size, shuffle=True),
    "map-style with two workers": lambda size: torchdatas(Points(), size, shuffle=True, num_workers=2),
}


def fetch_dataloader(types, data_dir, params):
    made = {split: TensorBatches(*points(split), batch_size=params.batch_size) for split in types if split != "train"}
    return made | ({"train": KINDS[params.kind](params.batch_size)} if "train" in types else {})
