"""A small network with dropout that appends the numbers of the examples of each training batch to a file."""

from pathlib import Path

import torch
from torch import nn


class Net(nn.Sequential):
    """(B, 1) numbers -> (B, 1) numbers."""

    def __init__(self, params):
        super().__init__(nn.Linear(1, 4), nn.Dropout(0.5), nn.Linear(4, 1))


def step(model, batch, params):
    numbers, noise = batch
    numbers = torch.cat(list(numbers)) if isinstance(numbers, list) else numbers
    if model.training:
        with Path(params.seen).open("a") as file:
            file.write(" ".join(map(str, numbers.tolist())) + "\n")
    outputs = model(numbers[:, None] / 23 + sum(part.mean() for part in noise) / len(noise))
    return ((outputs[:, 0] - numbers / 23) ** 2).mean(), outputs, numbers
