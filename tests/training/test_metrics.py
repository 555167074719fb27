"""A score does not depend on how the split was cut into batches, and it is the one computed by hand."""

import copy
import dataclasses
import math
import random
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch.nn.functional import cross_entropy
from torchmetrics import MeanAbsoluteError, MetricCollection, SumMetric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassAveragePrecision,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)
from torchmetrics.wrappers import BootStrapper, ClasswiseWrapper, MinMaxMetric, Running

from engine.errors import UserError
from engine.randomness import seed_everything
from engine.training import transfer
from engine.training.checkpoint import read_checkpoint, write_checkpoint
from engine.training.metric_objects import MacroF1, memory_of, remember
from engine.training.metrics import Mean, Scores, mean_losses, sampling, to_numpy

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

COUNT, CLASSES = 100, 4
every_batch_size = pytest.mark.parametrize("batch_size", [1, 7, 1000])


@pytest.fixture
def split():
    """(100, 4) outputs and (100,) labels; the last class is rare, and the first 30 labels are masked ones in `mask`."""
    generator = torch.Generator().manual_seed(3)
    outputs = torch.randn(COUNT, CLASSES, generator=generator)
    labels = torch.randint(CLASSES - 1, (COUNT,), generator=generator)
    labels[50] = CLASSES - 1
    return outputs, labels


def masked(labels):
    """The first 30 examples, and each fifth of the others, count for nothing."""
    numbers = torch.arange(len(labels))
    return (numbers < 30) | (numbers % 5 == 0)


def scored(split, loss_fn, metrics, batch_size, mask=None):
    """The scores of the split, a batch of `batch_size` at a time."""
    scores = Scores(metrics)
    columns = (*split, *([] if mask is None else [mask]))
    for batch in zip(*(column.split(batch_size) for column in columns), strict=True):
        scores.add(mean_losses(loss_fn(*batch), *batch[:2]), *batch[:2])
    assert scores.examples == COUNT
    return scores.compute()


# Losses


@every_batch_size
def test_a_mean_loss(split, batch_size):
    scores = scored(split, cross_entropy, {}, batch_size)
    assert scores == {"loss": pytest.approx(cross_entropy(*split).item(), rel=1e-6)}


def masked_loss(outputs, labels, mask):
    losses = cross_entropy(outputs, labels, reduction="none")
    return losses[~mask].sum(), (~mask).sum()


@every_batch_size
def test_a_loss_as_total_and_count_where_whole_batches_are_masked(split, batch_size):
    mask = masked(split[1])
    expected = cross_entropy(split[0][~mask], split[1][~mask]).item()
    assert scored(split, masked_loss, {}, batch_size, mask)["loss"] == pytest.approx(expected, rel=1e-6)


@every_batch_size
def test_a_loss_where_everything_is_masked(split, batch_size):
    nothing = torch.ones(COUNT, dtype=torch.bool)
    assert math.isnan(scored(split, masked_loss, {}, batch_size, nothing)["loss"])


def test_a_masked_batch_has_a_loss_of_zero_and_gradients_of_zero(split):
    outputs = split[0].requires_grad_()
    mean = mean_losses(masked_loss(outputs, split[1], torch.ones(COUNT, dtype=torch.bool)), *split)["loss"]
    mean.value.backward()
    assert mean.value.item() == 0
    assert not outputs.grad.any()


def test_a_count_may_be_a_plain_number(split):
    total = cross_entropy(*split, reduction="sum")
    assert scored(split, lambda *_: (total, COUNT), {}, 1000)["loss"] == pytest.approx(total.item() / COUNT)
    assert math.isnan(scored(split, lambda *_: (total * 0, 0), {}, 1000)["loss"])


@every_batch_size
def test_a_dict_of_losses(split, batch_size):
    mask = masked(split[1])

    def losses(outputs, labels, mask):
        return {"loss": cross_entropy(outputs, labels), "kept": masked_loss(outputs, labels, mask)}

    scores = scored(split, losses, {}, batch_size, mask)
    kept = cross_entropy(split[0][~mask], split[1][~mask]).item()
    assert scores == {"loss": pytest.approx(cross_entropy(*split).item()), "kept": pytest.approx(kept)}


def test_a_dict_of_losses_has_the_one_to_minimise(split):
    with pytest.raises(UserError, match=r'without "loss".*cross_entropy'):
        mean_losses({"cross_entropy": cross_entropy(*split)}, *split)


def test_a_loss_that_is_no_number_of_one_batch_is_refused(split):
    for loss, form in (
        (cross_entropy(*split, reduction="none"), r'"loss" .* it is a Tensor of shape \(100,\), not a tensor of one'),
        (1.5, "it is a float, not a tensor"),
        ((torch.ones(1), 2, 3), "it is a tuple of 3, not"),
        ({"loss": torch.ones(()), "part": torch.ones(2)}, r'"part" .* shape \(2,\)'),
    ):
        with pytest.raises(UserError, match=form):
            mean_losses(loss, *split)
    assert mean_losses(torch.ones(1), *split)["loss"].weight == COUNT


# Metrics


@pytest.mark.parametrize(
    ("result", "form"),
    [
        (None, "returns None, not a number"),
        (np.ones(COUNT), r"a ndarray of shape \(100,\)"),
        (torch.ones(COUNT), r"a Tensor of shape \(100,\)"),
        ((1, 2, 3), "a tuple of 3"),
        ("high", "a str"),
    ],
)
def test_a_function_that_returns_no_number_is_refused(split, result, form):
    with pytest.raises(UserError, match=f'the metric "accuracy" {form if "returns" in form else f"returns {form}"}'):
        scored(split, cross_entropy, {"accuracy": lambda outputs, labels: result}, 1000)


def test_a_fault_within_a_function_keeps_its_own_error(split):
    with pytest.raises(TypeError, match="NoneType"):
        scored(split, cross_entropy, {"accuracy": lambda outputs, labels: None + 1}, 1000)


@every_batch_size
def test_a_function_of_numpy_arrays(split, batch_size):
    def accuracy(outputs, labels):
        assert (outputs.dtype, labels.dtype) == (np.float32, np.int64)
        return np.mean(outputs.argmax(axis=1) == labels)

    scores = scored(split, cross_entropy, {"accuracy": accuracy}, batch_size)
    assert list(scores) == ["accuracy", "loss"]
    assert scores["accuracy"] == pytest.approx((split[0].argmax(dim=1) == split[1]).double().mean().item())


@every_batch_size
def test_a_function_that_returns_total_and_count(split, batch_size):
    def recall_of_first(outputs, labels):
        return np.sum((outputs.argmax(axis=1) == 0) & (labels == 0)), np.sum(labels == 0)

    first = split[1] == 0
    expected = (split[0][first].argmax(dim=1) == 0).double().mean().item()
    scores = scored(split, cross_entropy, {"recall": recall_of_first}, batch_size)
    assert scores["recall"] == pytest.approx(expected)


@every_batch_size
def test_an_object_of_torchmetrics(split, batch_size):
    metrics = {"f1": MulticlassF1Score(CLASSES, average="macro"), "auroc": MulticlassAUROC(CLASSES - 1)}
    outputs, labels = split[0][:, : CLASSES - 1].softmax(dim=1), split[1].clamp(max=CLASSES - 2)
    scores = scored((outputs, labels), cross_entropy, {"auroc": metrics["auroc"]}, batch_size)
    assert scores["auroc"] == pytest.approx(MulticlassAUROC(CLASSES - 1)(outputs, labels).item(), rel=1e-5)
    expected = f1_score(split[1], split[0].argmax(dim=1), average="macro")
    assert scored(split, cross_entropy, {"f1": metrics["f1"]}, batch_size)["f1"] == pytest.approx(expected, rel=1e-5)


@every_batch_size
def test_a_collection_of_torchmetrics(split, batch_size):
    collection = MetricCollection(
        {"macro": MulticlassF1Score(CLASSES, average="macro"), "each": MulticlassF1Score(CLASSES, average="none")}
    )
    scores = scored(split, cross_entropy, {"f1": collection}, batch_size)
    each = f1_score(split[1], split[0].argmax(dim=1), average=None)
    assert set(scores) == {"macro", *(f"each_{index}" for index in range(CLASSES)), "loss"}
    assert [scores[f"each_{index}"] for index in range(CLASSES)] == pytest.approx(each, rel=1e-5)


def test_the_given_object_is_left_alone(split):
    metric = MulticlassF1Score(CLASSES)
    first = scored(split, cross_entropy, {"f1": metric}, 7)
    assert metric.update_count == 0
    assert scored(split, cross_entropy, {"f1": metric}, 7) == first


@every_batch_size
@pytest.mark.parametrize("classes", [CLASSES, CLASSES + 2], ids=["all occur", "two never occur"])
def test_macro_f1_is_that_of_scikit_learn(split, batch_size, classes):
    outputs = torch.cat([split[0], torch.full((COUNT, classes - CLASSES), -9.0)], dim=1)
    scores = scored((outputs, split[1]), cross_entropy, {"f1": MacroF1(classes)}, batch_size)
    expected = f1_score(split[1], outputs.argmax(dim=1), average="macro")
    assert scores["f1"] == pytest.approx(expected, abs=1e-12)


def test_bfloat16_reaches_metrics_as_float32(split):
    seen = {}

    def keep(outputs, labels):
        seen.update(dtype=outputs.dtype)
        return 0.0

    scores = Scores({"keep": keep})
    scores.add(mean_losses(cross_entropy(*split), *split), split[0].bfloat16(), split[1])
    scores.settle()
    assert seen == {"dtype": np.float32}


def test_nested_outputs_and_labels_stay_nested():
    nested = to_numpy({"a": [torch.ones(2), 3], "b": (torch.ones(1, dtype=torch.bool),)})
    assert isinstance(nested["a"][0], np.ndarray)
    assert nested["a"][1] == 3
    assert nested["b"][0].dtype == bool


def test_a_split_without_batches_is_refused():
    with pytest.raises(UserError, match="no batch"):
        Scores({}).compute()


# Looking only now and then


def test_looking_seldom_thins_functions_and_nothing_else(split):
    looks = []

    def look(outputs, labels):
        looks.append(labels.tolist())
        return 0.0

    often, seldom = (Scores({"look": look, "f1": MacroF1(CLASSES)}, every=every) for every in (1, 4))
    batches = list(zip(split[0].split(9), split[1].split(9), strict=True))
    for scores in (often, seldom):
        looks.clear()
        for batch in batches:
            scores.add(mean_losses(cross_entropy(*batch), *batch), *batch)
        scores.settle()
    assert looks == [labels.tolist() for _, labels in batches[::4]]
    assert seldom.compute() == often.compute()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("every", [1, 3])
def test_what_a_batch_is_scored_by_is_what_there_was_and_nobody_else_changes_it(split, every, kind, device):
    """On a GPU too, where it is scored when it has arrived; the state in between is whole."""
    weight = [0.0]

    def rash(outputs, labels):
        outputs += 1
        labels["label"][:] = 0
        return labels["weight"][0] * float(outputs.sum())

    alone, followed = (Scores({"rash": rash}, every) for _ in range(2))
    for index, (outputs, target) in enumerate(zip(split[0].split(9), split[1].split(9), strict=True)):
        weight[0] = float(index)
        loss = cross_entropy(outputs, target)
        for scores, place in ((alone, "cpu"), (followed, device)):
            own = outputs.to(place, kind, copy=True)
            labels = {"label": target.to(place, copy=True), "weight": weight}
            losses = {"loss": Mean(loss.to(place, copy=True), torch.tensor(len(target), device=place))}
            scores.add(losses, own, labels)
            assert own.cpu().equal(outputs.to(kind))  # nor does a metric change what the network and the loader gave
            assert labels["label"].cpu().equal(target)
        for tensor in (losses["loss"].value, own, labels["label"]):
            tensor.zero_()
        weight[0] = -1.0
    assert followed.state_dict() == alone.state_dict()


@pytest.mark.parametrize("draw", [random.random, np.random.rand, lambda: float(torch.rand(()))])
def test_what_a_function_draws_at_random_follows_from_its_batch_whatever_is_scored_with_it(split, monkeypatch, draw):
    """As a bootstrap would; and what is drawn after it does not follow from when it was called."""

    def scored(together, stop=None):
        monkeypatch.setattr(transfer, "MOST_PARTS", together)
        drawn, scores = [], Scores({"noise": lambda outputs, labels: float(labels.sum() % 3) and draw()})
        for index, batch in enumerate(zip(split[0].split(9), split[1].split(9), strict=True)):
            seed_everything(index)
            scores.add(mean_losses(cross_entropy(*batch), *batch), *batch)
            drawn.append((random.random(), np.random.rand(), torch.rand(()).item()))
            if index == stop:
                state = scores.state_dict()
                scores = Scores(scores.functions)
                scores.load_state_dict(state)
        return scores.compute(), drawn

    whole = scored(1)
    assert len({*whole[1]}) == len(whole[1])
    assert 0 < whole[0]["noise"] < 1
    assert [scored(together) for together in (2, 3, 32)] == [whole] * 3
    assert [scored(32, stop) for stop in range(5)] == [whole] * 5


@pytest.mark.parametrize("kind", [np.zeros, SimpleNamespace])
def test_labels_that_are_no_tensors_are_scored_as_they_were(kind):
    """A loader may fill the same array again, or change an object that nobody can copy."""
    scores = Scores({"label": lambda outputs, labels: (labels.sum() if kind is np.zeros else labels.value, 1)})
    labels = np.zeros(4) if kind is np.zeros else SimpleNamespace()
    for value in range(3):
        if kind is np.zeros:
            labels[:] = value
        else:
            labels.value = 4 * value
        scores.add({"loss": Mean(torch.tensor(1.0), 4)}, torch.ones(4), labels, asked=4)
    assert scores.compute()["label"] == 4


@pytest.mark.parametrize("batches", range(1, 40))
def test_sampling_sees_all_batches_or_at_least_three(batches):
    for every in (None, 1, 2, 3, 7, 100):
        seen = len(range(0, batches, sampling(every, batches)))
        wanted = batches if every is None else len(range(0, batches, every))
        assert seen >= min(3, batches)
        assert seen == wanted or (wanted < 3 and seen >= wanted)


@pytest.mark.parametrize("every", [1, 3, 100])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", [0, 1, 4, 6, 7])
def test_the_first_loss_that_is_no_number_is_known_by_its_batch(every, bad, where):
    scores = Scores({}, every=every)
    for index in range(8):
        scores.add({"loss": Mean(torch.tensor(bad if index in (where, 7) else 1.0), 2)}, torch.ones(2), torch.ones(2))
    scores.settle()
    assert scores.not_finite_at == where


def test_finite_losses_are_no_fault(split):
    scores = Scores({})
    scores.add(mean_losses(cross_entropy(*split), *split), *split)
    scores.settle()
    assert scores.not_finite_at is None


def test_a_second_pass_begins_anew(split):
    scores = Scores({"f1": MacroF1(CLASSES)})
    scores.add(mean_losses(cross_entropy(*split), *split), *split)
    first = scores.compute()
    scores.reset()
    scores.add(mean_losses(cross_entropy(*split), *split), *split)
    assert scores.compute() == first


def test_a_part_of_the_loss_that_only_some_batches_have_is_the_mean_over_those(split):
    total = count = 0.0
    scores = Scores({}, every=3)
    for index, (outputs, labels) in enumerate(zip(split[0].split(9), split[1].split(9), strict=True)):
        loss = {"loss": cross_entropy(outputs, labels)}
        if index % 3 == 1:
            loss["part"] = loss["loss"] * index
            total, count = total + loss["part"].item() * len(labels), count + len(labels)
        scores.add(mean_losses(loss, outputs, labels), outputs, labels)
    assert scores.compute()["part"] == pytest.approx(total / count, rel=1e-6)


# Names


def twins():
    """Metrics of which two are logged by one name, and what both are of."""
    accuracy, f1 = MulticlassAccuracy(CLASSES), MulticlassF1Score(CLASSES)
    return {
        "two collections": ({"a": MetricCollection({"f1": f1}), "b": MetricCollection({"f1": f1})}, '"a".*"b"'),
        "a collection and a function": ({"f1": lambda *_: 0.0, "b": MetricCollection({"f1": f1})}, '"f1".*"b"'),
        "a collection and the loss": ({"a": MetricCollection({"loss": f1})}, '"a".*the loss'),
        "a value of a vector": ({"f1": MulticlassF1Score(CLASSES, average="none"), "f1_2": accuracy}, '"f1".*"f1_2"'),
        "a function and the loss": ({"part": lambda *_: 0.0}, '"part".*the loss'),
    }


@pytest.mark.parametrize("kind", twins())
def test_two_scores_of_one_name_are_refused_before_the_epoch_is_trained(split, kind):
    metrics, both = twins()[kind]
    loss = cross_entropy(*split)
    scores = Scores(metrics)
    scores.add(mean_losses({"loss": loss, "part": loss}, *split), *split)
    for read_scores in (lambda: scores.names, scores.compute):
        with pytest.raises(UserError, match=f"two scores are called .* of .*{both}"):
            read_scores()


class Quartiles:
    """A metric object that computes a dict, and cannot do so without an example of each class."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.seen = np.zeros(0, dtype=int)

    def update(self, outputs, labels):
        self.seen = np.concatenate([self.seen, labels.numpy()])

    def compute(self):
        if len(set(self.seen)) < CLASSES:
            raise ValueError("too few")
        return {"low": np.quantile(self.seen, 0.25), "others": np.quantile(self.seen, [0.5, 0.75])}

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


def test_names_are_known_after_the_first_batch_wherever_a_value_can_be_had(split):
    metrics = {
        "each": MulticlassF1Score(CLASSES, average="none"),
        "both": MetricCollection({"f1": MulticlassF1Score(CLASSES), "matrix": MulticlassConfusionMatrix(CLASSES)}),
        "quartiles": Quartiles(),
    }
    few, all_of_them = split[1].clamp(max=1), split[1]
    several = [*(f"each_{index}" for index in range(4)), "f1", *(f"matrix_{index}" for index in range(16))]
    scores = Scores(metrics)
    scores.add(mean_losses(cross_entropy(split[0], few), split[0], few), split[0], few)
    assert scores.names == [*several, "quartiles", "loss"]  # it cannot say yet
    scores.add(mean_losses(cross_entropy(*split), *split), split[0], all_of_them)
    assert scores.names == list(scores.compute()) == [*several, "low", "others_0", "others_1", "loss"]


# What a metric is given, and what it remembers


def test_a_function_that_changes_its_arrays_changes_them_for_nobody_else(split):
    def spoil(outputs, labels):
        outputs[:] = 0
        labels[:] = 0
        return 0.0

    def accuracy(outputs, labels):
        return np.mean(outputs.argmax(axis=1) == labels)

    before = [tensor.clone() for tensor in split]
    scores = scored(split, cross_entropy, {"spoil": spoil, "accuracy": accuracy, "f1": MacroF1(CLASSES)}, 7)
    assert scores["accuracy"] == pytest.approx((before[0].argmax(dim=1) == before[1]).double().mean().item())
    assert torch.equal(split[0], before[0])
    assert torch.equal(split[1], before[1])


@dataclasses.dataclass
class Answer:
    """What a network may give: an object that cannot be copied while its tensors have a graph."""

    logits: torch.Tensor


class Locked(OrderedDict):
    """A dict whose entries are attributes, and which refuses an update, as those of Hugging Face's networks."""

    def __getattr__(self, name):
        return self[name]

    def update(self, *others):
        raise TypeError("no update")


@pytest.mark.parametrize("form", [Answer, lambda logits: Locked([("logits", logits)])], ids=["dataclass", "mapping"])
def test_outputs_of_any_form_reach_a_function(split, form):
    def accuracy(outputs, labels):
        return np.mean(np.asarray(torch.as_tensor(outputs.logits).argmax(dim=1)) == labels)

    outputs, labels = form(split[0].clone().requires_grad_() * 1), split[1]
    scores = Scores({"accuracy": accuracy})
    scores.add(mean_losses(cross_entropy(outputs.logits, labels), outputs, labels), outputs, labels)
    assert scores.compute()["accuracy"] == pytest.approx((split[0].argmax(dim=1) == labels).double().mean().item())


def test_an_object_that_changes_what_it_is_given_is_refused(split):
    class Spoiling(MacroF1):
        def update(self, outputs, labels):
            super().update(outputs, labels.clamp_(max=1))

    with pytest.raises(UserError, match=r"a metric \(f1\) changes the outputs or labels"):
        scored(split, cross_entropy, {"f1": Spoiling(CLASSES)}, 7)


def test_numbers_of_64_bits_stay_what_they_are():
    outputs, labels = torch.tensor([1e9 + 0.358], dtype=torch.float64), torch.tensor([1e9], dtype=torch.float64)
    mae = {"mae": lambda outputs, labels: np.abs(outputs - labels).mean(), "object": MeanAbsoluteError()}
    mae["object"].set_dtype(torch.float64)
    scores = Scores(mae)
    scores.add(mean_losses((outputs - labels).abs().mean(), outputs, labels), outputs, labels)
    assert scores.compute() == {name: pytest.approx(0.358, abs=1e-6) for name in ("mae", "object", "loss")}


def test_outputs_in_a_dict_reach_an_object_without_their_graph(split):
    seen = []

    class Keeping(MacroF1):
        def update(self, outputs, labels):
            seen.append(outputs["logits"][0].requires_grad)
            super().update(outputs["logits"][0], labels)

    outputs = split[0].clone().requires_grad_() * 1
    scores = Scores({"f1": Keeping(CLASSES)})
    scores.add(mean_losses(cross_entropy(outputs, split[1]), outputs, split[1]), {"logits": [outputs]}, split[1])
    assert seen == [False]


def wrappers():
    """Metric objects whose memory lies deeper than in their own counts."""
    f1 = MulticlassF1Score(CLASSES)
    return {
        "min and max": MinMaxMetric(MulticlassAccuracy(CLASSES)),
        "bootstrap": BootStrapper(f1, num_bootstraps=3),
        "each class": ClasswiseWrapper(MulticlassF1Score(CLASSES, average="none")),
        "running": Running(SumOfHits(), window=3),
        "collection": MetricCollection([MulticlassPrecision(CLASSES), MulticlassRecall(CLASSES), f1]),
        "collection of wrappers": MetricCollection({"low": MinMaxMetric(f1), "f1": f1}),
        "all values": MulticlassAUROC(CLASSES),
        "own, in numpy": Quartiles(),
        "own, in attributes": HitsByLabel(),
    }


class HitsByLabel(SumMetric):
    """What it has counted lies in a dict and in an array, of which torchmetrics knows nothing."""

    def __init__(self):
        super().__init__()
        self.reset()

    def reset(self):
        super().reset()
        self.hits, self.labels = {}, np.zeros(CLASSES)

    def update(self, outputs, labels):
        super().update(torch.ones(()))
        for label, predicted in zip(labels.tolist(), outputs.argmax(dim=1).tolist(), strict=True):
            self.hits[label] = self.hits.get(label, 0) + (label == predicted)
            self.labels[label] += 1

    def compute(self):
        return torch.tensor([self.hits.get(label, 0) / max(1, self.labels[label]) for label in range(CLASSES)])


class SumOfHits(SumMetric):
    """How many predictions are right."""

    def update(self, outputs, labels):
        super().update((outputs.argmax(dim=1) == labels).float())


@pytest.mark.parametrize("kind", wrappers())
def test_metric_objects_go_on_from_a_checkpoint_as_if_never_stopped(split, kind, tmp_path):
    def add(scores, start, stop):
        for index in range(start, stop):
            torch.manual_seed(index)  # as the engine does for each batch
            rows = slice(9 * index, 9 * index + 9)
            batch = split[0][rows], split[1][rows]
            scores.add(mean_losses(cross_entropy(*batch), *batch), *batch)

    whole, first, second = (Scores({"metric": wrappers()[kind]}) for _ in range(3))
    for scores in (whole, first):  # an epoch, and a part of the next
        add(scores, 0, 12)
        scores.compute()
        scores.reset()
        add(scores, 0, 5)
    write_checkpoint({"state_dict": {}, "scores": first.state_dict()}, False, tmp_path)
    second.load_state_dict(read_checkpoint(tmp_path / "last.pth.tar")["scores"])
    for scores in (whole, first, second):
        add(scores, 5, 12)
    assert whole.compute() == first.compute() == second.compute()


@pytest.mark.parametrize("before", [1, 3])
def test_a_collection_that_counts_once_for_several_metrics_remembers_for_each(split, before):
    def add(collection, start, stop):
        for index in range(start, stop):
            collection.update(*(part[9 * index : 9 * index + 9] for part in split[:2]))

    whole, first, second = (
        MetricCollection([MulticlassAUROC(CLASSES), MulticlassAveragePrecision(CLASSES)]) for _ in range(3)
    )
    add(whole, 0, 6)
    add(first, 0, before)
    remember(second, copy.deepcopy(memory_of(first)))
    add(second, before, 6)
    assert second.compute() == whole.compute()


# Macro-F1


@every_batch_size
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_macro_f1_of_labels_of_any_type(batch_size, dtype):
    generator = torch.Generator().manual_seed(1)
    outputs, labels = torch.randn(300, 100, generator=generator), torch.randint(100, (300,), generator=generator)
    outputs[torch.arange(300), labels] += 2.0
    expected = f1_score(labels, outputs.argmax(dim=1), average="macro")
    metric = MacroF1(100)
    for part in zip(outputs.split(batch_size), labels.to(dtype).split(batch_size), strict=True):
        metric.update(*part)
    assert metric.compute() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("ignored", [-100, -1])
def test_macro_f1_leaves_ignored_labels_out(split, ignored):
    labels = split[1].clone()
    labels[::3] = ignored
    kept = labels >= 0
    expected = f1_score(labels[kept], split[0][kept].argmax(dim=1), average="macro")
    metric = MacroF1(CLASSES)
    metric.update(split[0], labels)
    assert metric.compute() == pytest.approx(expected, abs=1e-12)


def test_macro_f1_of_many_classes_is_small_in_a_checkpoint():
    metric = MacroF1(100_000)
    metric.update(torch.eye(3, 100_000), torch.arange(3))
    assert metric.compute() == 1.0
    assert sum(tensor.nbytes for tensor in metric.state_dict().values()) == 3 * 100_000 * 8
