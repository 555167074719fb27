"""Networks that other trainers get wrong. They know nothing of the engine, so that a plain loop can train them, too."""

import functools
import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    from torch.nn.utils import weight_norm


class SeededDropout(nn.Dropout):
    """Dropout whose draws follow from its inputs, so that any loop draws the same."""

    def forward(self, inputs: Tensor) -> Tensor:
        torch.manual_seed(int(inputs.detach().abs().sum() * 1000))
        return super().forward(inputs)


def layers(*between: nn.Module, width: int = 8) -> nn.Sequential:
    """(B, 5) -> (B, 3), with something in between that takes (B, width)."""
    return nn.Sequential(nn.Linear(5, width), *between, nn.Tanh(), nn.Linear(width, 3))


class Position(nn.Module):
    """Adds a constant that is a frozen parameter, and drops out beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(8), requires_grad=False)
        self.dropout = SeededDropout(0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.dropout(inputs + self.position)


def frozen_norm() -> nn.Module:
    """One batch norm that is frozen, one that trains, and one that has nothing to train."""
    net = layers(nn.BatchNorm1d(8), nn.BatchNorm1d(8), nn.BatchNorm1d(8, affine=False), SeededDropout(0.3))
    net[1].requires_grad_(False)
    net[1].running_mean.fill_(0.5)
    return net


def frozen_part() -> nn.Module:
    """A first layer that stays as it is, with the dropout that belongs to it."""
    net = layers(nn.Sequential(nn.Linear(8, 8), SeededDropout(0.4)))
    net[1].requires_grad_(False)
    return net


class Slice(nn.Module):
    """A parameter that is every second row of a larger memory, whose other rows are constants."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = torch.randn(6, 5)
        self.weight = nn.Parameter(self.memory[::2])

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs @ self.weight.T + inputs @ self.memory[1::2].T


class Words(nn.Module):
    """An embedding with sparse gradients, of the word that comes first."""

    def __init__(self, sparse_by_call: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 3, sparse=not sparse_by_call)
        self.sparse_by_call = sparse_by_call

    def forward(self, inputs: Tensor) -> Tensor:
        words = inputs[:, 0].long()
        return (
            nn.functional.embedding(words, self.words.weight, sparse=True) if self.sparse_by_call else self.words(words)
        )


class Seldom(nn.Module):
    """A second path that only batches with many large numbers take: no gradient in the others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.never = nn.Linear(5, 3), nn.Linear(5, 3), nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.first(inputs)
        return outputs + self.second(inputs) if inputs[:, 1].mean() > 0 else outputs


class Masked(nn.Module):
    """A mask of 0 and -inf, once as a buffer and once as a frozen parameter."""

    def __init__(self) -> None:
        super().__init__()
        mask = torch.tensor([0.0, -math.inf, 0.0, 0.0, -math.inf])
        self.register_buffer("mask", mask)
        self.other_mask = nn.Parameter(mask.clone(), requires_grad=False)
        self.layer = nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer((inputs + self.mask + self.other_mask).softmax(dim=1))


class Counting(nn.Module):
    """Counts its batches outside of its buffers, in an extra state, and scales by the count."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)
        self.seen = {"batches": 0}

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.seen["batches"] += 1
        return self.layer(inputs) / self.seen["batches"]

    def get_extra_state(self) -> dict[str, int]:
        return self.seen

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.seen = state


class Thawing(nn.Module):
    """A first layer that is frozen until the sixth batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 3)
        self.first.requires_grad_(False)
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.batches += 1
            if self.batches == 6:
                self.first.requires_grad_(True)
        return self.second(self.first(inputs))


class LearnedLoss(nn.Module):
    """A network that holds its loss, which learns how sharp to be."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)
        self.sharpness = nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) * self.sharpness


class Shared(nn.Module):
    """One matrix in two places, transposed in memory, and a whole number among the parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(5, 4, bias=False), nn.Linear(4, 5, bias=False)
        self.into.weight = nn.Parameter(torch.randn(5, 4).T)
        self.out.weight = nn.Parameter(torch.randn(5, 4))
        self.again = self.out
        self.count = nn.Parameter(torch.tensor(3), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.again(self.into(inputs))[:, : int(self.count)]


class Lazy(nn.Sequential):
    """Layers that take their sizes from the first batch, and their first weights from a seed of their own."""

    def __init__(self) -> None:
        super().__init__(nn.LazyLinear(8), nn.Tanh(), nn.LazyBatchNorm1d(), nn.LazyLinear(3))

    def forward(self, inputs: Tensor) -> Tensor:
        if isinstance(self[0], nn.LazyLinear):
            torch.manual_seed(5)
        return super().forward(inputs)


class Complex(nn.Module):
    """Complex weights between real numbers, as in a Fourier layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 3, dtype=torch.complex64))

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs.to(torch.complex64) @ self.weight).abs()


class Recomputed(nn.Module):
    """A first part whose activations are computed again on the way back."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(checkpoint(lambda inputs: torch.tanh(self.first(inputs)), inputs, use_reentrant=False))


class Sign(torch.autograd.Function):
    """The sign, with the gradient of a straight line."""

    @staticmethod
    def forward(context: Any, inputs: Tensor) -> Tensor:
        return inputs.sign()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient


class Binary(nn.Module):
    """Activations of -1 and 1 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(Sign.apply(self.first(inputs)))


class OfSlopes(nn.Module):
    """Takes the slopes of its own first layer as a second input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 4), nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        weights = dict(self.first.named_parameters())

        def height(example: Tensor) -> Tensor:
            return torch.tanh(functional_call(self.first, weights, (example,))).sum()

        return self.second(inputs + vmap(grad(height))(inputs))


class Double(nn.Module):
    """All in 64 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3, dtype=torch.float64)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs.double())


NETS = {
    "complex": Complex,
    "recomputed": Recomputed,
    "binary": Binary,
    "slopes": OfSlopes,
    "double": Double,
    "orthogonal": lambda: layers(parametrizations.orthogonal(nn.Linear(8, 8))),
    "plain": lambda: layers(),
    "dropout beside a frozen parameter": lambda: layers(Position()),
    "frozen batch norm": frozen_norm,
    "frozen part": frozen_part,
    "slice": Slice,
    "sparse": Words,
    "sparse by the call": functools.partial(Words, sparse_by_call=True),
    "seldom": Seldom,
    "old weight norm": lambda: layers(weight_norm(nn.Linear(8, 8))),
    "weight norm": lambda: layers(parametrizations.weight_norm(nn.Linear(8, 8))),
    "spectral norm": lambda: layers(parametrizations.spectral_norm(nn.Linear(8, 8))),
    "old spectral norm": lambda: layers(torch.nn.utils.spectral_norm(nn.Linear(8, 8))),
    "masked": Masked,
    "lazy": Lazy,
    "extra state": Counting,
    "thawing": Thawing,
    "learned loss": LearnedLoss,
    "shared": Shared,
    "batch norm": lambda: nn.Sequential(nn.BatchNorm1d(5), layers()),
}


def Net(params):  # noqa: N802
    """A network of the kind that the params name."""
    return NETS[params.net]()


loss_fn = cross_entropy
metrics = {}
