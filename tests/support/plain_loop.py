"""A training loop as written by hand, in plain PyTorch, to hold the engine against: it imports nothing of ours."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer


@dataclass
class PlainRun:
    """What a plain loop ended with."""

    model: nn.Module
    optimizer: Optimizer
    average: list[Tensor] | None = None  # of the parameters, where a decay was given
    losses: list[float] = field(default_factory=list)  # of training, the mean of each epoch


def train_plainly(
    make_net: Callable[[], nn.Module],
    make_optimizer: Callable[[nn.Module], Optimizer],
    batches: list[tuple[Tensor, Tensor]],
    loss_fn: Callable[[Any, Tensor], Tensor],
    epochs: int,
    seed: int,
    before_epoch: Callable[[nn.Module], None] = lambda model: None,
    decay: float | None = None,
) -> PlainRun:
    """Train; with a `decay`, follow the parameters by an average that begins at the first step."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    model = make_net()
    run = PlainRun(model, make_optimizer(model))
    updates = 0
    for _ in range(epochs):
        model.train()
        before_epoch(model)
        total = 0.0
        for inputs, labels in batches:
            run.optimizer.zero_grad()
            loss = loss_fn(model(inputs), labels)
            loss.backward()
            run.optimizer.step()
            total += loss.item() * len(labels)
            if decay is not None:
                weights = [p.detach().to(torch.promote_types(p.dtype, torch.float64)) for p in model.parameters()]
                if run.average is None:
                    run.average = [weight.clone() for weight in weights]
                else:
                    keep = min(decay, (1 + updates) / (10 + updates))
                    run.average = [keep * a + (1 - keep) * w for a, w in zip(run.average, weights, strict=True)]
                updates += 1
        run.losses.append(total / sum(len(labels) for _, labels in batches))
    return run


@torch.no_grad()
def mean_loss(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], loss_fn: Callable[[Any, Tensor], Tensor]
) -> float:
    """The mean over all examples, the network as it is used."""
    model.eval()
    pairs = [(loss_fn(model(inputs), labels).item(), len(labels)) for inputs, labels in batches]
    return sum(loss * count for loss, count in pairs) / sum(count for _, count in pairs)
