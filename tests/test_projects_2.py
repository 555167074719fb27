"""What people change in a project is changed in its task package and `params.json`: the second half of the families."""

import csv
import functools
import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from engine.hyperparameters import Params, load_params
from engine.randomness import seed_everything
from tests.projects.autoencoder.data_loader import curves
from tests.projects.bert_like.data_loader import sentences
from tests.projects.bert_like.net import Net as Transformer
from tests.projects.dict_batches.data_loader import Recordings
from tests.projects.old_text.data_loader import DataLoader as OldDataLoader
from tests.projects.old_text.net import Net as OldNet
from tests.projects.old_text.net import loss_fn as old_loss_fn
from tests.projects.rmse_regression.data_loader import Houses
from tests.support import faults, scripts
from tests.support.folders import checkpoint, history, read, same, same_results

PARAMS = {
    "dict_batches": {"batch_size": 16, "learning_rate": 0.03},
    "rmse_regression": {
        "batch_size": 16,
        "learning_rate": 0.02,
        "monitor": "rmse",
        "mode": "min",
        "validation_name": "dev",
    },
    "frozen_backbone": {"learning_rate": 0.3, "freeze": False, "backbone_rate": 0.1, "decay_per": "step"},
    "bert_like": {"batch_size": 8, "learning_rate": 0.01, "weight_decay": 0.01, "accumulate": 2, "grad_clip": 1},
    "autoencoder": {"batch_size": 16, "learning_rate": 0.01, "net": "small"},
    "stream": {"batch_size": 8, "learning_rate": 0.05, "num_hours": None, "max_train_batches": 6},
    "old_text": {"batch_size": 4, "learning_rate": 0.02, "embedding_dim": 8, "hidden_dim": 8},
}
TEST_SIZES = {"dict_batches": 30, "rmse_regression": 50, "frozen_backbone": 50, "bert_like": 48, "autoencoder": 41}


@pytest.fixture(scope="session")
def tagged_words(tmp_path_factory):
    """Sentences, 40 to train on and 20 in each other split, with the vocabulary of the training ones."""
    folder = tmp_path_factory.mktemp("tagged_words")
    nouns, verbs = ("dog", "cat", "moon", "boat"), ("sees", "likes", "leaves")
    generator = np.random.default_rng(0)
    for split, count in {"train": 40, "val": 20, "test": 20}.items():
        objects = [*nouns, "zebra"] if split == "test" else nouns  # which nobody has seen in training
        lines = []
        for _ in range(count):
            subject, verb, thing = (generator.choice(words) for words in (nouns, verbs, objects))
            line = f"the/O {subject}/NOUN {verb}/VERB the/O {thing}/NOUN"
            lines.append(line + (" today/O" if generator.random() < 0.5 else ""))
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    words = ["the", "today", *nouns, *verbs, "<pad>", "UNK"]
    (folder / "words.txt").write_text("\n".join(words))
    (folder / "tags.txt").write_text("O\nNOUN\nVERB")
    sizes = {"vocab_size": len(words), "number_of_tags": 3, "unk_word": "UNK", "pad_word": "<pad>"}
    (folder / "dataset_params.json").write_text(json.dumps(sizes))
    return folder


@pytest.fixture
def train(experiment, script, tagged_words):
    """Trains a project: `train("stream", "folder_name", num_epochs=3)`; returns the folder."""

    def run(project, name="experiment", /, *words, **params):
        defaults = {"task": f"tests.projects.{project}", "data_dir": str(tagged_words), "num_epochs": 2}
        folder = experiment(name, **{**defaults, **PARAMS[project], **params})
        done = script("train", "--model_dir", folder, *words)
        assert done.status == 0, done.stderr
        return folder

    return run


@pytest.fixture
def evaluate(script):
    """Evaluates an experiment; returns the lines of its predictions."""

    def run(folder, split="test"):
        done = script("evaluate", "--model_dir", folder, "--split", split)
        assert done.status == 0, done.stderr
        return list(csv.DictReader((folder / f"predictions_{split}.csv").open()))

    return run


def difference(one, other, part=""):
    """How far the weights of a part of the network are from each other in two checkpoints."""
    pairs = [(one["state_dict"][name], other["state_dict"][name]) for name in one["state_dict"] if part in name]
    return torch.cat([(a.double() - b.double()).flatten() for a, b in pairs]).norm().item()


def column(folder, name):
    """The values of one column of the history, epoch by epoch."""
    return [row[name] for row in history(folder)]


# All of them


def test_each_project_learns_is_evaluated_and_is_a_row_of_the_table(train, evaluate, script, tmp_path):
    for project in PARAMS:
        folder = train(project, f"all/{project}", num_epochs=6)
        assert script("evaluate", "--model_dir", folder).status == 0
        losses = column(folder, "val_loss")
        assert losses[-1] < 0.85 * losses[0], project
        assert {f"val_{name}" for name in read(folder, "metrics_test_best.json")} <= history(folder)[0].keys()
        if project != "old_text":  # its outputs are words, not examples: no line of a table is any one's
            lines = evaluate(folder)
            assert len(lines) == TEST_SIZES.get(project, len(lines)) > 0
    assert script("synthesize_results", "--parent_dir", tmp_path / "all").status == 0
    table = (tmp_path / "all" / "results.md").read_text()
    assert all(f"| {project} " in table for project in PARAMS)
    assert "test rmse" in table


# Batches that are dicts, with padding, masks and file names


def test_the_number_of_workers_does_not_show_in_batches_of_any_form(train):
    alone, helped = (train("dict_batches", f"{workers}_workers", num_workers=workers) for workers in (0, 2))
    assert same_results(alone, helped)
    still = column(train("dict_batches", "still", learning_rate=0), "train_loss")
    assert still[0] != still[1]  # so there is something random about the items that workers could have spoilt


def test_neither_padding_nor_the_batch_size_shows_in_a_metric(train, evaluate):
    small, large = (train("dict_batches", f"by_{size}", num_epochs=1, batch_size=size) for size in (4, 45))
    still, other = (train("dict_batches", f"{n}", num_epochs=1, batch_size=n, learning_rate=0) for n in (4, 45))
    assert history(still)[0]["val_loss"] == pytest.approx(history(other)[0]["val_loss"], abs=1e-6)
    for folder in (small, large):
        lines, files = evaluate(folder, "val"), Recordings("val")
        assert [line["recording"] for line in lines] == [files[index]["file"] for index in range(45)]
        right = np.array([int(line["prediction"]) for line in lines]) == files.labels
        scores, lengths = read(folder, "metrics_val_best.json"), np.array([len(values) for values in files.values])
        assert scores["accuracy"] == pytest.approx(right.mean())
        assert scores["time_accuracy"] == pytest.approx((right * lengths).sum() / lengths.sum())
        assert scores["time_accuracy"] != pytest.approx(right.mean())


# Regression from several inputs, by the smallest error


def test_the_rmse_is_that_of_the_whole_split(train, evaluate):
    folder = train("rmse_regression")
    errors = np.array([float(line["price"]) for line in evaluate(folder)]) - Houses("test").price.numpy()
    of_batches = [np.sqrt(np.mean(errors[start : start + 16] ** 2)) for start in range(0, 50, 16)]
    rmse = read(folder, "metrics_test_best.json")["rmse"]
    assert rmse == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-5)
    assert rmse != pytest.approx(np.mean(of_batches), rel=1e-3)


@pytest.mark.parametrize(("mode", "choose"), [("min", min), ("max", max)])
def test_any_logged_value_can_say_which_epoch_is_best(train, mode, choose):
    folder = train("rmse_regression", num_epochs=5, learning_rate=0.2, mode=mode)
    errors = column(folder, "val_rmse")
    assert checkpoint(folder, "best")["epoch"] == errors.index(choose(errors)) + 1
    assert read(folder, "metrics_val_best_weights.json")["rmse"] == choose(errors)


def test_the_split_to_validate_on_may_be_called_otherwise(train, evaluate):
    dev, valid = train("rmse_regression", "dev"), train("rmse_regression", "valid", validation_name="valid")
    assert same_results(dev, valid)
    assert len(evaluate(valid, "val")) == len(evaluate(valid, "valid")) == 50
    assert read(valid, "metrics_valid_best.json") == read(valid, "metrics_val_best_weights.json")


def test_a_plateau_is_one_of_what_is_monitored(train):
    plateau = {"schedule": "plateau", "num_epochs": 14, "batch_size": 60}
    stuck, falling = (train("rmse_regression", f"{r}", learning_rate=r, **plateau) for r in (1e-7, 1e-3))
    assert column(stuck, "learning_rate") == pytest.approx([1e-7] * 12 + [1e-8] * 2)
    errors = column(falling, "val_rmse")
    assert errors == sorted(errors, reverse=True)
    assert column(falling, "learning_rate") == [1e-3] * 14  # in the other mode, this would be the plateau


# A backbone that is frozen, and parts that learn at their own rates


def test_a_frozen_backbone_keeps_every_bit_and_its_head_learns(train):
    source = train("frozen_backbone", "pretrained")
    start = ("--restore_file", source / "best.pth.tar")
    frozen = checkpoint(train("frozen_backbone", "frozen", *start, num_epochs=3, freeze=True, ema_decay=0.5))
    free = checkpoint(train("frozen_backbone", "free", *start, num_epochs=3, freeze=False))
    pretrained = checkpoint(source, "best")["state_dict"]
    assert {"backbone.0.weight", "backbone.1.running_mean", "backbone.1.num_batches_tracked"} <= pretrained.keys()
    for name, weights in pretrained.items():
        assert same(weights, frozen["state_dict"][name]) == name.startswith("backbone.")
        assert same(weights, frozen["training_state_dict"][name]) == name.startswith("backbone.")
        assert not same(weights, free["state_dict"][name])


def test_each_parameter_group_learns_at_its_own_rate(train):
    one_step = {"num_epochs": 1, "max_train_batches": 1}
    still = checkpoint(train("frozen_backbone", "still", **one_step, learning_rate=0))
    slow, fast = (checkpoint(train("frozen_backbone", f"{r}", **one_step, backbone_rate=r)) for r in (0.1, 1))
    moved = [difference(still, other, "backbone.0") for other in (slow, fast)]
    assert moved[0] == pytest.approx(0.1 * moved[1], rel=1e-3)
    assert moved[1] > 0.01
    assert difference(slow, fast, "head") == 0 < difference(slow, still, "head")


@pytest.mark.parametrize(("decay_per", "factors"), [("step", [1, 0.7, 0.4, 0.1]), ("epoch", [1, 0.1, 0.01, 0.001])])
def test_a_schedule_of_the_tasks_own_goes_by_steps_or_by_epochs(train, decay_per, factors):
    folder = train("frozen_backbone", decay_per=decay_per, num_epochs=3, batch_size=40)
    assert column(folder, "learning_rate") == pytest.approx([0.3 * factor for factor in factors[:3]])
    groups = checkpoint(folder)["optim_dict"]["param_groups"]
    assert [group["lr"] for group in groups] == pytest.approx([0.3 * factors[3], 0.03 * factors[3]])


def test_a_split_without_labels_is_predicted_and_not_scored(train, evaluate):
    folder = train("frozen_backbone")
    lines = evaluate(folder, "unlabelled")
    outputs = [f"prediction_{place}" for place in range(3)]  # nothing says that these are classes
    assert (len(lines), list(lines[0])) == (33, outputs)
    assert {max(outputs, key=lambda name: float(line[name])) for line in lines} == {*outputs}
    assert not (folder / "metrics_unlabelled_best.json").exists()
    assert [look["split"] for look in read(folder, "run.json")["evaluations"]] == ["unlabelled"]


# A model that returns its own loss


@pytest.mark.parametrize("ema_decay", [None, 0.8])
def test_the_loss_of_the_model_is_the_one_that_is_logged(train, ema_decay):
    folder = train("bert_like", ema_decay=ema_decay)
    content = checkpoint(folder)
    model = Transformer(load_params(folder / "params.json", {"vocab_size": 20})).eval()
    model.load_state_dict(content["state_dict"])
    with torch.no_grad():
        output = model(*(torch.from_numpy(array) for array in sentences("val")))
    assert history(folder)[-1]["val_loss"] == pytest.approx(output.loss.item(), rel=1e-5)
    if ema_decay is not None:
        assert difference(content, {"state_dict": content["training_state_dict"]}) > 1e-3


def test_small_batches_can_step_like_one_large_one(train):
    plain = {"optimizer": "SGD", "learning_rate": 0.5, "grad_clip": None}
    large = checkpoint(train("bert_like", "large", **plain, batch_size=32, accumulate=1))
    small = checkpoint(train("bert_like", "small", **plain, batch_size=8, accumulate=4))  # the last group is of three
    still = checkpoint(train("bert_like", "still", **{**plain, "learning_rate": 0}))
    assert difference(large, small) < 1e-5 < 0.01 < difference(large, still)
    assert large["step"] == small["step"] == 8


def test_a_gradient_is_clipped_over_all_groups_after_it_was_accumulated(train):
    one_step = {"optimizer": "SGD", "num_epochs": 1, "max_train_batches": 2, "weight_decay": 0}
    still = checkpoint(train("bert_like", "still", **one_step, learning_rate=0))
    free = checkpoint(train("bert_like", "free", **{**one_step, "grad_clip": None}, learning_rate=1))
    clipped = checkpoint(train("bert_like", "clipped", **{**one_step, "grad_clip": 0.01}, learning_rate=1))
    assert difference(clipped, still) == pytest.approx(0.01, rel=1e-3)
    assert difference(free, still) > 0.1


# Inputs without labels


def test_an_autoencoder_learns_from_inputs_alone_and_writes_its_codes(train, evaluate):
    folder = train("autoencoder", num_epochs=8)
    lines = evaluate(folder)
    weights, inputs = checkpoint(folder, "best")["state_dict"], curves("test")
    codes = inputs @ weights["encoder.weight"].T + weights["encoder.bias"]
    again = codes @ weights["decoder.weight"].T + weights["decoder.bias"]
    written = [[float(line["code_0"]), float(line["code_1"])] for line in lines]
    torch.testing.assert_close(torch.tensor(written), codes, rtol=1e-4, atol=1e-5)
    error = nn.functional.mse_loss(again, inputs).item()
    assert read(folder, "metrics_test_best.json") == {"loss": pytest.approx(error, rel=1e-5)}
    assert error < 0.5 * inputs.var().item()


# A network or a task by name, and an experiment from another


def test_the_network_is_chosen_by_a_name_in_the_params(train, script, tmp_path):
    small, wide = train("autoencoder", "small"), tmp_path / "wide"
    done = script("train", "--model_dir", wide, "--from", small, "--set", "net=wide")
    assert done.status == 0, done.stderr
    assert read(wide, "params.json") == {**read(small, "params.json"), "net": "wide"}
    assert checkpoint(small)["state_dict"]["encoder.weight"].shape == (2, 12)
    assert checkpoint(wide)["state_dict"]["encoder.0.weight"].shape == (32, 12)


def test_an_experiment_from_another_may_be_on_another_task(train, script, tmp_path):
    source, folder = train("dict_batches"), tmp_path / "from_it"
    words = ["--set", "task=tests.projects.autoencoder", "--set", "net=small", "--set", "num_epochs=1"]
    done = script("train", "--model_dir", folder, "--from", source, *words)
    assert done.status == 0, done.stderr
    assert "decoder.weight" in checkpoint(folder)["state_dict"]
    assert read(folder, "run.json")["params"]["task"] == "tests.projects.autoencoder"


# Streams without a length


@pytest.mark.parametrize(
    ("params", "hours"),
    [
        ({"max_train_batches": 3}, [(0, 23), (0, 23), (0, 23)]),
        ({"steps_per_epoch": 3}, [(0, 23), (24, 47), (48, 71)]),
        ({"steps_per_epoch": 3, "num_hours": 40}, [(0, 23), (24, 7), (8, 31)]),  # it begins again after 5 batches
        ({"steps_per_epoch": 2, "accumulate": 2}, [(0, 31), (32, 63), (64, 95)]),
        ({"steps_per_epoch": 2, "max_train_batches": 3}, [(0, 15), (16, 7), (8, 23)]),
    ],
)
def test_an_epoch_on_a_stream_goes_on_where_the_last_one_ended(train, params, hours):
    folder = train("stream", **{"max_train_batches": None, "num_epochs": 3, **params})
    seen = zip(column(folder, "train_first_hour"), column(folder, "train_last_hour"), strict=True)
    assert list(seen) == hours
    assert column(folder, "val_hours") == [30] * 3


def test_a_stream_without_a_limit_is_refused_in_one_line(experiment, script):
    params = {**PARAMS["stream"], "max_train_batches": None}
    done = script("train", "--model_dir", experiment(task="tests.projects.stream", **params))
    assert done.status == 2
    assert "steps_per_epoch" in done.stderr
    assert done.stderr.strip().count("\n") <= 1


# A project in the manner of the course's text example


def test_an_old_text_project_is_trained_as_its_own_scripts_trained_it(train, tagged_words):
    """Its class, its loop: the same batches, the same weights to start from, the same scores."""
    folder = train("old_text", num_epochs=3)
    params = Params(folder / "params.json")
    params.cuda = False
    loader = OldDataLoader(str(tagged_words), params)
    data = loader.load_data(["train", "val"], str(tagged_words))
    seed_everything(230)
    model = OldNet(params)
    optimizer = torch.optim.Adam(model.parameters(), lr=params.learning_rate)
    for row in history(folder):
        for batch, labels in loader.data_iterator(data["train"], params, shuffle=True):
            optimizer.zero_grad()
            old_loss_fn(model(batch), labels).backward()
            optimizer.step()
        with torch.no_grad():
            losses = [old_loss_fn(model(b), labels).item() for b, labels in loader.data_iterator(data["val"], params)]
        assert row["val_loss"] == pytest.approx(np.mean(losses), rel=1e-3)


def test_an_old_text_project_is_evaluated_from_its_folder_alone(train, script, tagged_words):
    folder = train("old_text", num_epochs=8)
    assert script("evaluate", "--model_dir", folder, cwd=scripts.ROOT).status == 0
    learned = {key: value for key, value in read(folder, "data.json").items() if not key.startswith("_")}
    assert learned == {**read(tagged_words, "dataset_params.json"), "train_size": 40, "val_size": 20}
    assert checkpoint(folder)["state_dict"]["embedding.weight"].shape == (11, 8)
    assert set(read(folder, "metrics_test_best.json")) == {"accuracy", "loss"}
    assert read(folder, "metrics_test_best.json")["accuracy"] > 0.8  # one in two, if every word were tagged O


@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by signals")
@pytest.mark.parametrize("number", [12, 14])
def test_old_text_killed_within_an_epoch_goes_on_to_the_same_bits(train, experiment, script, tagged_words, number):
    undisturbed = train("old_text", "undisturbed", save_steps=1)
    params = read(undisturbed, "params.json")
    folder = experiment("killed", **params)
    killed = script("train", "--model_dir", folder, before=functools.partial(faults.kill_at_replace, number, False))
    assert killed.status == -9
    assert checkpoint(folder)["scores"]["batches"] > 0
    assert script("train", "--model_dir", folder).status == 0
    assert same_results(folder, undisturbed)
