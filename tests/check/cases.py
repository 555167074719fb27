"""Small projects to examine: healthy ones, and each with one fault in one of its functions."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits, load_iris, make_multilabel_classification
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from engine.check.project import Project
from engine.hyperparameters import load_params
from engine.randomness import seed_everything
from engine.training import Task, choose_device
from evaluate import forward
from train import choose_optimizer

Data = Callable[[str], tuple[Tensor, ...]]
SIZES = {"train": 240, "val": 90, "test": 90}


@dataclass(frozen=True)
class Case:
    """A project in one line: what it is made of, and which checks are to tell its fault, if it has one."""

    name: str
    net: Callable[[Any], nn.Module]
    data: Data
    loss_fn: Callable[..., Any] | None = functional.cross_entropy
    told_by: tuple[str, ...] = ()
    metrics: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    step: Callable[..., Any] | None = None
    configure_optimizer: Callable[..., Any] | None = None
    loader: Callable[..., Any] | None = None

    def project(self, seconds: float = 60.0) -> Project:
        """The project, with its batches fetched, as `train.py --check` has it."""
        params = load_params("params.json", {"learning_rate": 0.01, "batch_size": 32, **self.params})
        device = choose_device("cpu", threads=1)
        task = Task(
            name="case",
            Net=self.net,
            fetch_dataloader=self._fetch,
            metrics=lambda _: self.metrics,
            loss_fn=self.loss_fn,
            step=self.step,
            configure_optimizer=self.configure_optimizer,
            configure_scheduler=None,
            predict=None,
            report=None,
        )
        seed_everything(params.seed)
        loaders = task.fetch_dataloader(["train", "val"], "none", params)
        project = Project(task, params, device, loaders, forward, choose_optimizer, seconds=seconds)
        project.gather()
        return project

    def _fetch(self, types: list[str], data_dir: str, params: Any) -> dict[str, Any]:
        make = self.loader or (lambda data, split: DataLoader(data, params.batch_size, shuffle=split == "train"))
        return {split: make(TensorDataset(*self.data(split)), split) for split in types}


def digits(split: str) -> tuple[Tensor, Tensor]:
    """(N, 64) pixels, standardised, and (N,) digits."""
    bunch = load_digits()
    first = {"train": 0, "val": 900, "test": 1300}[split]
    rows = slice(first, first + (800 if split == "train" else 300))
    return torch.tensor(bunch.data[rows] / 8 - 1, dtype=torch.float32), torch.tensor(bunch.target[rows])


def corners(split: str) -> tuple[Tensor, Tensor]:
    """(N, 4) points around three corners, and (N,) the corner."""
    generator = np.random.default_rng(list(SIZES).index(split))
    labels = generator.integers(3, size=SIZES[split])
    points = np.eye(4)[labels] * 2 + generator.normal(scale=0.6, size=(len(labels), 4))
    return torch.tensor(points, dtype=torch.float32), torch.tensor(labels)


def sums(split: str) -> tuple[Tensor, Tensor]:
    """(N, 4) numbers and (N, 1) a weighted sum of them."""
    generator = np.random.default_rng(list(SIZES).index(split))
    inputs = generator.normal(size=(SIZES[split], 4))
    labels = inputs @ [[1.0], [-2.0], [0.5], [1.5]] + generator.normal(scale=0.1, size=(len(inputs), 1))
    return torch.tensor(inputs, dtype=torch.float32), torch.tensor(labels, dtype=torch.float32)


def mlp(inputs: int, outputs: int, *last: nn.Module, hidden: int = 32) -> Callable[[Any], nn.Module]:
    """A network of one hidden layer, and whatever comes last."""
    return lambda _: nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs), *last)


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(outputs.argmax(axis=1) == labels))


HEALTHY = Case("corners", mlp(4, 3), corners, metrics={"accuracy": accuracy})
REGRESSION = Case("sums", mlp(4, 1), sums, functional.mse_loss)
DIGITS = Case("digits", mlp(64, 10), digits, metrics={"accuracy": accuracy})


def faulty(base: Case, name: str, told_by: str | tuple[str, ...], **changes: Any) -> Case:
    """The base with other functions in place of some."""
    checks = (told_by,) if isinstance(told_by, str) else told_by
    return replace(base, name=name, told_by=checks, **changes)


class BatchStatistics(nn.Module):
    """Normalises by the batch at hand, in evaluation too."""

    def __init__(self, params: Any) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 32), nn.Linear(32, 3)
        self.norm = nn.BatchNorm1d(32, track_running_stats=False)

    def forward(self, points: Tensor) -> Tensor:
        return self.last(torch.relu(self.norm(self.first(points))))


def dead(params: Any) -> nn.Module:
    """A network whose ReLUs begin far below 0."""
    model = mlp(4, 3)(params)
    nn.init.constant_(model[0].bias, -30.0)
    return model


def backward_in_step(model: nn.Module, batch: Any, params: Any) -> tuple[Any, Any, Any]:
    inputs, labels = batch
    outputs = model(inputs)
    loss = functional.cross_entropy(outputs, labels)
    if torch.is_grad_enabled():
        loss.backward(retain_graph=True)
    return loss, outputs, labels


class NeverZero(torch.optim.SGD):
    """Keeps all gradients there ever were."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        pass


def apart(data: Data, splits: tuple[str, ...] = ("train", "val")) -> Data:
    """The same inputs with the labels of others."""

    def shuffled(split: str) -> tuple[Tensor, ...]:
        inputs, labels = data(split)
        return inputs, labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))]

    return shuffled


def test_in_train(data: Data) -> Data:
    """A tenth of test stands in train as well."""

    def mixed(split: str) -> tuple[Tensor, ...]:
        parts = data(split)
        if split != "train":
            return parts
        return tuple(
            torch.cat([part, other[: len(other) // 10]]) for part, other in zip(parts, data("test"), strict=True)
        )

    return mixed


def changed(data: Data, inputs: Callable[[Tensor], Tensor] = lambda x: x, labels: Any = lambda y: y) -> Data:
    """The data with a function over its inputs and one over its labels."""
    return lambda split: (inputs(data(split)[0]), labels(data(split)[1]))


STUDENTS = [  # what students are known to do
    faulty(DIGITS, "logits after softmax", "loss fits outputs", net=mlp(64, 10, nn.Softmax(dim=1))),
    faulty(
        HEALTHY,
        "labels off by one",
        ("batch passes", "labels fit outputs"),
        data=changed(corners, labels=lambda y: y + 1),
    ),
    faulty(HEALTHY, "backward in a custom step", "step only computes", step=backward_in_step),
    faulty(
        HEALTHY,
        "zero_grad forgotten",
        "step only computes",
        configure_optimizer=lambda model, params: NeverZero(model.parameters(), lr=0.01),
    ),
    faulty(HEALTHY, "batch statistics in evaluation", "examples are judged alone", net=BatchStatistics),
    faulty(DIGITS, "learning rate 100 times too large", "learning rate is borne", params={"learning_rate": 1.0}),
    faulty(
        DIGITS, "inputs not normalised", "inputs are normalised", data=changed(digits, inputs=lambda x: (x + 1) * 127.5)
    ),
    faulty(
        DIGITS,
        "loss over the wrong axis",
        "loss adds up",
        loss_fn=lambda outputs, labels: functional.nll_loss(functional.log_softmax(outputs, dim=0), labels),
    ),
    faulty(HEALTHY, "inputs shuffled apart from labels", "learning holds on val", data=apart(corners)),
    faulty(HEALTHY, "test examples in train", "no example is in two splits", data=test_in_train(corners)),
    faulty(HEALTHY, "dead ReLU from the start", ("outputs depend on inputs", "gradients reach all"), net=dead),
]


def bits(split: str) -> tuple[Tensor, Tensor]:
    """(N, 8) bits, to be given back."""
    generator = torch.Generator().manual_seed(list(SIZES).index(split))
    inputs = torch.randint(2, (SIZES[split] * 2, 8), generator=generator).float()
    return inputs, inputs.clone()


def shuffled_bits(split: str) -> tuple[Tensor, Tensor]:
    inputs, labels = bits(split)
    return inputs, labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))]


def ones_and_zeros(split: str) -> tuple[Tensor, Tensor]:
    """(N, 16) all 1 or all 0, with a little noise, and (N, 1) which."""
    generator = torch.Generator().manual_seed(list(SIZES).index(split))
    labels = torch.randint(2, (SIZES[split], 1), generator=generator).float()
    return labels + 0.1 * torch.randn(SIZES[split], 16, generator=generator), labels


def topics(split: str) -> tuple[Tensor, Tensor]:
    """(N, 20) word counts and (N, 3) topics, any number of them."""
    inputs, labels = make_multilabel_classification(600, 20, n_classes=3, random_state=0)
    rows = {"train": slice(0, 400), "val": slice(400, 500), "test": slice(500, 600)}[split]
    return torch.tensor(inputs[rows] / 10, dtype=torch.float32), torch.tensor(labels[rows], dtype=torch.float32)


def measurements(split: str) -> tuple[Tensor, Tensor]:
    """(N, 3) columns of quite different size, not scaled, and (N, 1) yes or no."""
    generator = np.random.default_rng(list(SIZES).index(split))
    plain = generator.normal(size=(SIZES[split] * 2, 3))
    labels = (plain.sum(1) + generator.normal(scale=0.3, size=len(plain)) > 0).astype(np.float32)
    return torch.tensor(plain * [1000, 50, 3] + [5000, 300, 10], dtype=torch.float32), torch.tensor(labels)[:, None]


def scaled(data: Data, labels_too: bool = False) -> Data:
    """Inputs, and labels if so asked for, less the mean and divided by the standard deviation of train."""

    def scale(split: str) -> tuple[Tensor, ...]:
        of_train, parts = data("train"), data(split)
        moved = [
            (part - base.mean(0)) / base.std(0)
            for part, base in zip(parts, of_train, strict=True)
            if base.is_floating_point()
        ]
        return (moved[0], moved[1] if labels_too else parts[1])

    return scale


def line(split: str) -> tuple[Tensor, Tensor]:
    """(N, 1) x and (N, 1) 3 x + 10."""
    inputs = torch.rand(SIZES[split], 1, generator=torch.Generator().manual_seed(list(SIZES).index(split))) * 2 - 1
    return inputs, 3 * inputs + 10


def parabola(split: str) -> tuple[Tensor, Tensor]:
    """(N, 1) x from 0 to 5, and (N, 1) 5 x^2 with noise."""
    generator = torch.Generator().manual_seed(list(SIZES).index(split))
    inputs = torch.rand(SIZES[split], 1, generator=generator) * 5
    return inputs, 5 * inputs**2 + torch.randn(SIZES[split], 1, generator=generator) ** 3


def fourth_power(split: str) -> tuple[Tensor, Tensor]:
    """(N, 1) x from -100 to 100, and (N, 1) its fourth power."""
    inputs = torch.rand(SIZES[split], 1, generator=torch.Generator().manual_seed(list(SIZES).index(split))) * 200 - 100
    return inputs, inputs**4


def iris(split: str) -> tuple[Tensor, Tensor]:
    """(N, 4) centimetres and (N,) species."""
    bunch = load_iris()
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    rows = {"train": order[:90], "val": order[90:120], "test": order[120:]}[split]
    return torch.tensor(bunch.data, dtype=torch.float32)[rows], torch.tensor(bunch.target)[rows]


def wide_start(*last: nn.Module, hidden: nn.Module) -> Callable[[Any], nn.Module]:
    """A network for digits whose first weights are drawn with a standard deviation of 1."""

    def build(params: Any) -> nn.Module:
        model = nn.Sequential(nn.Linear(64, 30), hidden, nn.Linear(30, 10), *last)
        for layer in (model[0], model[2]):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
        return model

    return build


def one_hot_mse(outputs: Tensor, labels: Tensor) -> Tensor:
    return functional.mse_loss(outputs, functional.one_hot(labels, 10).float())


def sgd(rate: float, **options: Any) -> dict[str, Any]:
    return {"optimizer": "SGD", "learning_rate": rate, **options}


BCE, LOGITS = functional.binary_cross_entropy, functional.binary_cross_entropy_with_logits
LOST = changed(digits, labels=lambda y: (y / 255).long())
# Kinds of faults in the collection of Wardat, Le and Rajan (DeepLocalize, ICSE 2021), each with its mending.
COLLECTION = [
    (
        Case("31880720: softmax of one output", mlp(16, 1, nn.Softmax(dim=1)), ones_and_zeros, BCE),
        Case("31880720 mended", mlp(16, 1, nn.Sigmoid()), ones_and_zeros, BCE),
    ),
    (
        Case(
            "38648195: softmax and square error for several labels",
            mlp(20, 3, nn.Softmax(dim=1)),
            topics,
            functional.mse_loss,
        ),
        Case("38648195 mended", mlp(20, 3, nn.Sigmoid()), topics, BCE),
    ),
    (
        Case("39217567: labels shuffled apart from inputs", mlp(8, 8), shuffled_bits, LOGITS),
        Case("39217567 mended", mlp(8, 8), bits, LOGITS),
    ),
    (
        Case("39525358: inputs not scaled", mlp(3, 1, nn.Sigmoid(), hidden=12), measurements, BCE),
        Case("39525358 mended", mlp(3, 1, nn.Sigmoid(), hidden=12), scaled(measurements), BCE),
    ),
    (
        Case(
            "44066044: ReLU before binary cross-entropy", mlp(3, 1, nn.ReLU(), hidden=12), scaled(measurements), LOGITS
        ),
        Case("44066044 mended", mlp(3, 1, hidden=12), scaled(measurements), LOGITS),
    ),
    (
        Case("47352366: ReLU before cross-entropy", mlp(64, 10, nn.ReLU()), digits),
        Case("47352366 mended", mlp(64, 10), digits),
    ),
    (
        Case(
            "48221692: sigmoid for a number that goes beyond 1",
            mlp(1, 1, nn.Sigmoid(), hidden=5),
            line,
            functional.mse_loss,
        ),
        Case("48221692 mended", mlp(1, 1, hidden=5), scaled(line, labels_too=True), functional.mse_loss),
    ),
    (
        Case(
            "48385830: wide first weights, no activation, SGD at 3",
            wide_start(hidden=nn.Identity()),
            digits,
            one_hot_mse,
            params=sgd(3.0),
        ),
        Case("48385830 mended", wide_start(hidden=nn.Sigmoid()), digits, params=sgd(0.3)),
    ),
    (
        Case(
            "48934338: SGD at 0.1 on labels up to 125",
            mlp(1, 1, hidden=50),
            parabola,
            functional.mse_loss,
            params=sgd(0.1),
        ),
        Case(
            "48934338 mended",
            mlp(1, 1, hidden=50),
            scaled(parabola, labels_too=True),
            functional.mse_loss,
            params=sgd(0.1),
        ),
    ),
    (
        Case(
            "51930566: sigmoid before cross-entropy", mlp(4, 3, nn.Sigmoid(), hidden=8), iris, params={"batch_size": 5}
        ),
        Case("51930566 mended", mlp(4, 3, hidden=8), scaled(iris), params={"batch_size": 5}),
    ),
    (
        Case("52800582: neither inputs nor labels scaled", mlp(1, 1, hidden=50), fourth_power, functional.mse_loss),
        Case("52800582 mended", mlp(1, 1, hidden=50), scaled(fourth_power, labels_too=True), functional.mse_loss),
    ),
    (
        Case("59325381: labels divided like pixels", mlp(64, 10), LOST),
        Case("59325381 mended", mlp(64, 10), digits),
    ),
]
