"""Tasks of many kinds, each as a package of its own, trained and evaluated by the scripts as they are (part 1)."""

import csv
import functools
import json

import numpy as np
import pytest
import torch

import evaluate
import synthesize_results
import train
from engine.errors import UserError
from engine.files import read_json
from engine.hyperparameters import load_params
from engine.training.device import Device
from engine.training.metrics import Scores, mean_losses
from engine.training.predictions import Predictions
from engine.training.task import fetch_batches, load_task
from tests.projects.distillation.net import divergence
from tests.projects.segmentation.data_loader import IGNORED
from tests.support.folders import checkpoint, history, read, same

PROJECTS = {
    "segmentation": {"num_channels": 8, "learning_rate": 0.02, "num_epochs": 16, "monitor": "dice", "mode": "max"},
    "multi_task": {"num_hidden": 32, "size_weight": 4.0, "monitor": "size_error", "mode": "min"},
    "distillation": {"num_hidden": 32, "learning_rate": 0.03},
    "triplet": {"embedding_size": 4, "margin": 2.0, "threshold": 1.5, "monitor": "pair_accuracy", "mode": "max"},
    "super_resolution": {"num_channels": 16, "learning_rate": 0.02, "monitor": "psnr", "mode": "max"},
    "tagging": {"num_hidden": 24},
    "multi_label": {"monitor": "auroc", "mode": "max"},
}
DEFAULTS = {"data_dir": "none", "device": "cpu", "batch_size": 16, "num_epochs": 8, "learning_rate": 0.01}

every_project = pytest.mark.parametrize("project", PROJECTS)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trains and evaluates an experiment, once: `run("distillation", "student", num_hidden=4)`; returns the folder."""
    parent = tmp_path_factory.mktemp("experiments")

    @functools.cache
    def run_once(project, name="base", /, **params):
        folder = parent / project / name
        folder.mkdir(parents=True)
        values = {"task": f"tests.projects.{project}", **DEFAULTS, **PROJECTS[project], **params}
        (folder / "params.json").write_text(json.dumps(values))
        train.main(["--model_dir", str(folder)])
        for split in ("val", "test"):
            evaluate.main(["--model_dir", str(folder), "--split", split])
        return folder

    return run_once


def restored(folder, split="test", batch_size=1000):
    """The best network of a run with a split, all of it in one batch unless a size is given: (model, batches, ...)."""
    best = checkpoint(folder, "best")
    file = folder / "params.json"
    params = load_params(file, {**read_json(file), "batch_size": batch_size})
    params.learn(best["learned"])
    task, device = load_task(params.task, params), Device(torch.device("cpu"))
    model = task.Net(params).eval().requires_grad_(False)
    model.load_state_dict(best["state_dict"])
    return model, fetch_batches(task, [split], params, device)[split], task, params, device


def outputs_of(folder, split="test"):
    """What the best network says of a whole split, and the labels."""
    model, ((inputs, labels),), *_ = restored(folder, split)
    return model(inputs), labels


def predictions(folder, split="test"):
    """The lines of a table of predictions."""
    return list(csv.DictReader((folder / f"predictions_{split}.csv").open()))


def scores_by_batch(folder, metric, batch_size=16):
    """A metric of each batch alone: what an average over batches would be made of."""
    model, batches, *_ = restored(folder, batch_size=batch_size)
    return [metric(model(inputs), labels) for inputs, labels in batches]


# All of them


@every_project
def test_it_trains_evaluates_and_is_in_the_table(run, project):
    folder = run(project)
    rows, test_scores = history(folder), read(folder, "metrics_test_best.json")
    assert rows[-1]["train_loss"] < 0.8 * rows[0]["train_loss"]
    assert read(folder, "metrics_val_best.json") == read(folder, "metrics_val_best_weights.json")
    assert {f"val_{name}" for name in test_scores} == {name for name in rows[0] if name.startswith("val_")}

    synthesize_results.main(["--parent_dir", str(folder.parent)])
    with (folder.parent / "results.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["experiment"] == "base"
    for name, score in test_scores.items():
        assert float(row[f"test {name}"]) == pytest.approx(score, rel=1e-3)


@every_project
def test_the_best_epoch_is_that_of_the_metric_which_is_monitored(run, project):
    params = {"monitor": "accuracy", "mode": "max", **PROJECTS[project]}
    column, rows = f"val_{params['monitor']}", history(run(project))
    best, score = (
        checkpoint(run(project), "best"),
        {"max": max, "min": min}[params["mode"]](row[column] for row in rows),
    )
    assert best["best_score"] == score != rows[0][column]
    equals = [row for row in rows if row[column] == score]
    assert best["epoch"] == min(equals, key=lambda row: row["val_loss"])["epoch"]


@every_project
@pytest.mark.parametrize("batch_size", [1, 7])
def test_no_score_depends_on_the_batch_size(run, project, batch_size):
    expected = read(run(project), "metrics_test_best.json")
    scores = evaluate.evaluate(*restored(run(project), batch_size=batch_size))
    assert scores == pytest.approx(expected, rel=1e-4)


def test_a_column_of_predictions_may_be_any_tensor():
    table = Predictions("test", None, None, lambda outputs, _: {"score": outputs, "word": ["a", "b"]}, None)
    table.add(torch.ones(2, dtype=torch.bfloat16, requires_grad=True), None)
    assert table.columns == {"score": [1.0, 1.0], "word": ["a", "b"]}


# Segmentation


def pixels_that_count(folder):
    """What the best network says of each pixel that counts and what is right, over the whole test split."""
    outputs, masks = outputs_of(folder)
    counted = masks != IGNORED
    return outputs.argmax(dim=1)[counted].numpy(), masks[counted].numpy()


def test_dice_is_that_of_all_pixels_of_the_split_but_those_ignored(run):
    found, wanted = pixels_that_count(run("segmentation"))
    expected = 2 * np.sum(found & wanted) / (np.sum(found) + np.sum(wanted))
    assert read(run("segmentation"), "metrics_test_best.json")["dice"] == pytest.approx(expected)
    assert expected > 0.8

    def dice(outputs, masks):
        found, wanted = outputs.argmax(dim=1)[masks != IGNORED], masks[masks != IGNORED]
        return (2 * (found & wanted).sum() / (found.sum() + wanted.sum())).item()

    assert np.mean(scores_by_batch(run("segmentation"), dice)) != pytest.approx(expected, rel=1e-4)


def test_mean_intersection_over_union_is_that_of_the_whole_split(run):
    found, wanted = pixels_that_count(run("segmentation"))
    each = [np.sum((found == c) & (wanted == c)) / np.sum((found == c) | (wanted == c)) for c in (0, 1)]
    assert read(run("segmentation"), "metrics_test_best.json")["mean_iou"] == pytest.approx(np.mean(each), rel=1e-5)


def test_the_loss_of_a_picture_weighs_as_many_pixels_as_count_in_it(run):
    outputs, masks = outputs_of(run("segmentation"))
    each = -outputs.log_softmax(dim=1).gather(1, masks.clamp(max=1)[:, None])[:, 0]  # (N, H, W)
    counted = masks != IGNORED
    loss = read(run("segmentation"), "metrics_test_best.json")["loss"]
    assert loss == pytest.approx(each[counted].mean().item(), rel=1e-5)
    by_picture = (each * counted).sum(dim=(1, 2)) / counted.sum(dim=(1, 2))
    assert loss != pytest.approx(by_picture.mean().item(), rel=1e-4)


# Two heads


def test_the_parts_of_the_loss_are_logged_and_add_up(run):
    for row in history(run("multi_task")):
        for split in ("train", "val"):
            parts = row[f"{split}_kind_loss"], row[f"{split}_size_loss"]
            assert row[f"{split}_loss"] == pytest.approx(parts[0] + 4 * parts[1], rel=1e-5)


def test_each_head_is_scored_and_predicts(run):
    outputs, labels = outputs_of(run("multi_task"))
    scores = read(run("multi_task"), "metrics_test_best.json")
    kinds = outputs["kind"].argmax(dim=1)
    assert scores["kind_accuracy"] == pytest.approx((kinds == labels["kind"]).double().mean().item())
    assert scores["size_error"] == pytest.approx((outputs["size"] - labels["size"]).abs().mean().item(), rel=1e-5)
    assert scores["kind_accuracy"] > 0.8
    assert scores["size_error"] < 0.8 * (labels["size"] - labels["size"].median()).abs().mean()
    lines = predictions(run("multi_task"))
    assert [int(line["kind"]) for line in lines] == kinds.tolist()
    assert [float(line["size"]) for line in lines] == pytest.approx(outputs["size"].tolist(), rel=1e-4)


def test_a_head_that_weighs_nothing_learns_nothing(run):
    ignoring = checkpoint(run("multi_task", "no_size", size_weight=0.0, num_epochs=2))["state_dict"]
    longer = checkpoint(run("multi_task", "no_size_longer", size_weight=0.0, num_epochs=3))["state_dict"]
    assert torch.equal(ignoring["size.weight"], longer["size.weight"])
    assert not torch.equal(ignoring["kind.weight"], longer["kind.weight"])


def test_a_part_of_the_loss_is_not_called_like_a_metric():
    outputs, labels, loss = torch.zeros(4), torch.ones(4), torch.tensor(1.0)
    scores = Scores({"size": lambda *_: 0.0})
    scores.add(mean_losses({"loss": loss, "size": loss}, outputs, labels), outputs, labels)
    with pytest.raises(UserError, match='two scores are called "size", of the metric "size" and the loss'):
        scores.compute()
    scores = Scores({"loss": lambda *_: 0.0})  # a project of 2018 may have that; the loss was written over it
    scores.add(mean_losses(loss, outputs, labels), outputs, labels)
    assert scores.compute() == {"loss": 1.0}


# Distillation


@pytest.fixture
def student(run):
    """Trains a student that is told by its teacher alone, never by the labels: `student("name", ema_decay=0.9)`."""
    teaching = {"teacher": str(run("distillation")), "temperature": 2.0}

    def make(name="student", /, teacher_share=1.0, **params):
        return run("distillation", name, num_hidden=16, teacher_share=teacher_share, **teaching, **params)

    return make


@pytest.mark.parametrize("params", [{}, {"ema_decay": 0.9}, {"weight_decay": 0.5, "optimizer": "AdamW"}])
def test_the_teacher_keeps_its_weights_and_batch_statistics_to_the_bit(run, student, params):
    teacher = checkpoint(run("distillation"), "best")["state_dict"]
    for name in ("best", "last"):
        content = checkpoint(student("_".join(["student", *params]), **params), name)
        for weights in (content["state_dict"], content.get("training_state_dict", content["state_dict"])):
            beside = {key.removeprefix("teacher."): value for key, value in weights.items() if "teacher." in key}
            assert same(beside, dict(teacher))
            assert weights["layers.1.num_batches_tracked"] > 0  # the student's own do move


def test_the_optimizer_moves_the_student_alone(student):
    parameters = [name for name, _ in restored(student())[0].named_parameters()]
    moved = [parameters[index] for index in checkpoint(student())["optim_dict"]["state"]]
    assert moved == [name for name in parameters if not name.startswith("teacher.")]


def test_the_student_learns_from_its_teacher_alone(run, student):
    assert read(run("distillation"), "metrics_test_best.json")["accuracy"] > 0.9
    assert read(student(), "metrics_test_best.json")["accuracy"] > 0.8


def test_the_loss_is_what_the_labels_and_the_teacher_say_in_their_shares(run, student):
    folder = student("both", teacher_share=0.75)
    (outputs, labels), (taught, _) = outputs_of(folder), outputs_of(run("distillation"))
    hard = torch.nn.functional.cross_entropy(outputs, labels).item()
    soft = 4 * divergence(outputs / 2, taught / 2).item()
    expected = {"loss": 0.25 * hard + 0.75 * soft, "hard_loss": hard, "soft_loss": soft}
    scores = read(folder, "metrics_test_best.json")
    assert {name: scores[name] for name in expected} == pytest.approx(expected, rel=1e-4)


# Metric learning


def distances_of(model, views):
    """The distances of the pairs in triplets, of those that belong together and of the others: (N,), (N,)."""
    anchors, positives, negatives = (model(part) for part in views)
    return (anchors - positives + 1e-6).norm(dim=1), (anchors - negatives + 1e-6).norm(dim=1)


def test_batches_of_three_need_no_labels(run):
    model, (views,), *_ = restored(run("triplet"))
    near, far = distances_of(model, views)
    scores = read(run("triplet"), "metrics_test_best.json")
    assert scores["loss"] == pytest.approx((near - far + 2).clamp(min=0).mean().item(), rel=1e-4)
    right = torch.cat([near < 1.5, far >= 1.5])
    assert scores["pair_accuracy"] == pytest.approx(right.double().mean().item())
    lines = predictions(run("triplet"))
    assert [float(line["positive_distance"]) for line in lines] == pytest.approx(near.tolist(), rel=1e-4)
    assert [float(line["negative_distance"]) for line in lines] == pytest.approx(far.tolist(), rel=1e-4)


def test_views_of_one_thing_come_nearer_than_they_were(run):
    model, (views,), task, params, _ = restored(run("triplet"))
    nearer = [(near < far).double().mean() for near, far in (distances_of(m, views) for m in (model, task.Net(params)))]
    assert nearer[0] > 0.85 > nearer[1]


# Super-resolution


def test_psnr_is_the_mean_over_pictures_and_better_than_interpolation(run):
    model, ((small, large),), *_ = restored(run("super_resolution"))
    shown = {
        "ours": model(small),
        "bilinear": torch.nn.functional.interpolate(small, scale_factor=2, mode="bilinear"),
    }
    psnr = {
        name: (20 * torch.log10(1 / ((picture - large) ** 2).mean(dim=(1, 2, 3)).sqrt())).mean().item()
        for name, picture in shown.items()
    }
    assert read(run("super_resolution"), "metrics_test_best.json")["psnr"] == pytest.approx(psnr["ours"], rel=1e-4)
    assert psnr["ours"] > psnr["bilinear"] + 1


def test_pictures_are_no_line_of_a_table(run):
    assert not (run("super_resolution") / "predictions_test.csv").exists()


# Tagging


def test_every_word_counts_once_and_what_fills_up_a_batch_never(run):
    model, *_ = restored(run("tagging"))
    sentences = restored(run("tagging"), batch_size=1)[1]  # so that nothing is filled up
    outputs = [(model(words)["logits"][0], tags[0]) for words, tags in sentences]
    logits, tags = (torch.cat(parts) for parts in zip(*outputs, strict=True))
    scores = read(run("tagging"), "metrics_test_best.json")
    assert scores["accuracy"] == pytest.approx((logits.argmax(dim=1) == tags).double().mean().item())
    assert scores["loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, tags).item(), rel=1e-5)
    by_sentence = np.mean([(logits.argmax(dim=1) == tags).double().mean().item() for logits, tags in outputs])
    assert scores["accuracy"] != pytest.approx(by_sentence, rel=1e-4)
    assert scores["accuracy"] > 0.6


def test_predictions_are_as_long_as_the_sentences(run):
    sentences = restored(run("tagging"), batch_size=1)[1]
    lengths = [len(line["tags"].split()) for line in predictions(run("tagging"))]
    assert lengths == [words.shape[1] for words, _ in sentences]


def test_what_the_loader_learned_makes_the_network(run):
    vocabulary = read(run("tagging"), "data.json")["vocabulary_size"]
    assert checkpoint(run("tagging"), "best")["state_dict"]["embedding.weight"].shape[0] == vocabulary == 10


# Several labels


def auroc(scores, labels):
    """Of all pairs of an example with the label and one without, those in which the first has the higher score."""
    pairs = scores[labels == 1][:, None] - scores[labels == 0][None]
    return ((pairs > 0).double() + 0.5 * (pairs == 0).double()).mean().item()


def test_the_area_under_the_curve_is_that_of_the_whole_split(run):
    outputs, labels = outputs_of(run("multi_label"))
    expected = np.mean([auroc(outputs[:, topic], labels[:, topic]) for topic in range(3)])
    assert labels.dtype == torch.float32
    assert read(run("multi_label"), "metrics_test_best.json")["auroc"] == pytest.approx(expected, rel=1e-5)
    assert expected > 0.75
    (first, *_) = scores_by_batch(run("multi_label"), lambda outputs, labels: auroc(outputs[:, 0], labels[:, 0]))
    assert first != pytest.approx(expected, rel=1e-3)


def test_the_area_under_the_curve_of_training_is_over_the_epoch_too(run):
    """With a learning rate of 0 the network of the first epoch is that of its end."""
    folder = run("multi_label", "still", learning_rate=0, num_epochs=1, save_summary_steps=5)
    outputs, labels = outputs_of(folder, "train")
    expected = np.mean([auroc(outputs[:, topic], labels[:, topic]) for topic in range(3)])
    assert history(folder)[0]["train_auroc"] == pytest.approx(expected, rel=1e-5)


def test_each_topic_has_its_column_of_probabilities_after_those_of_the_labels(run):
    outputs, labels = outputs_of(run("multi_label"))
    lines = predictions(run("multi_label"))
    assert list(lines[0]) == ["label_0", "label_1", "label_2", "politics", "science", "sports"]
    written = torch.tensor([[float(value) for value in line.values()] for line in lines])
    torch.testing.assert_close(written, torch.cat([labels, outputs.sigmoid()], dim=1), rtol=1e-4, atol=1e-6)
