"""The task that is shipped: classify a folder of images. Skipped where `model/` is the user's own by now."""
# ruff: noqa: E402  # what may not be there can only be imported after a look

import csv
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

REPOSITORY = Path(__file__).parent.parent
SHIPPED = '"""Batches of images and labels out of a folder of images."""'
loading = REPOSITORY / "model" / "data_loader.py"
if not loading.exists() or loading.read_text(encoding="utf-8").partition("\n")[0] != SHIPPED:
    pytest.skip("model/ is not the shipped one", allow_module_level=True)

from engine.errors import UserError
from engine.experiment import plan_training
from model.data_loader import fetch_dataloader
from model.net import Net, loss_fn, metrics, report
from utils import Params

ALL = ("train", "val", "test")


def params_of(**values):
    return Params("experiments/mine/params.json", {"batch_size": 4, "seed": 1, **values})


def write_images(folder, counts, side=12, colour=False):
    """Noise whose brightness tells the class: 50, 100, 150, ..."""
    generator = np.random.default_rng(0)
    for number, (name, count) in enumerate(counts.items(), start=1):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            shape = (side, side + 2, 3) if colour else (side, side + 2)
            pixels = generator.integers(50 * number - 5, 50 * number + 5, shape, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")


@pytest.fixture
def folder(tmp_path):
    for split, count in (("train", 10), ("val", 3), ("test", 4)):
        write_images(tmp_path / "data" / split, {"cat": count, "dog": 2 * count, "eel": count})
    return tmp_path / "data"


class TestBatches:
    def test_training_images_teach_classes_size_channels_and_normalisation(self, folder):
        params = params_of()
        fetch_dataloader(["train", "val"], folder, params)
        assert params.classes == ["cat", "dog", "eel"]
        assert params.class_counts == [10, 20, 10]
        assert (params.image_size, params.image_channels) == (12, 1)
        assert params.mean == [pytest.approx(100, abs=1)]
        assert params.std == [pytest.approx(50 / 2**0.5, abs=1)]
        json.dumps(vars(params))  # it goes into data.json

    def test_a_batch_is_what_the_network_takes(self, folder):
        batches = fetch_dataloader(ALL, folder, params_of())
        assert [len(batches[split]) for split in ALL] == [10, 1, 1]
        inputs, labels = next(iter(batches["train"]))
        assert (inputs.shape, inputs.dtype) == ((4, 1, 12, 12), torch.float32)
        assert (labels.shape, labels.dtype) == ((4,), torch.int64)
        everything = torch.cat([inputs for inputs, _ in batches["train"]])
        assert abs(everything.mean()) < 0.01
        assert abs(everything.std() - 1) < 0.01

    def test_training_batches_are_shuffled_and_the_others_in_the_order_of_their_names(self, folder):
        batches = fetch_dataloader(ALL, folder, params_of())
        orders = [torch.cat([labels for _, labels in batches["train"]]).tolist() for _ in range(2)]
        assert orders[0] != orders[1]
        labels = torch.cat([labels for _, labels in batches["val"]]).tolist()
        assert [name.split("/")[1] for name in batches["val"].names] == [["cat", "dog", "eel"][i] for i in labels]

    def test_only_training_images_are_augmented(self, folder):
        params = params_of(shift=0.4, rotate=40, scale=0.4, cutout=0.5, flip=True)
        batches = fetch_dataloader(["train", "val"], folder, params)
        twice = [torch.cat([inputs for inputs, _ in batches["val"]]) for _ in range(2)]
        assert torch.equal(*twice)
        rows = batches["train"].rows[:4]
        assert not torch.equal(batches["train"].batch(rows)[0], batches["train"].batch(rows)[0])

    def test_the_test_images_are_not_opened_for_training(self, folder):
        for path in (folder / "test").rglob("*.png"):
            path.write_bytes(b"")
        params = params_of()
        fetch_dataloader(["train", "val"], folder, params)
        with pytest.raises(UserError, match="16 of 16 images cannot be read"):
            fetch_dataloader(["test"], folder, params)

    def test_evaluation_uses_what_training_learned(self, folder):
        params = params_of()
        batches = fetch_dataloader(["train", "val"], folder, params)
        shutil.rmtree(folder / "train")
        known = params_of(**vars(params))
        again = fetch_dataloader(["val"], folder, known)
        assert vars(known) == vars(params)
        assert torch.equal(next(iter(again["val"]))[0], next(iter(batches["val"]))[0])

    def test_evaluation_before_training_is_refused(self, folder):
        with pytest.raises(UserError, match="train first"):
            fetch_dataloader(["test"], folder, params_of())

    def test_a_flat_folder_is_decoded_once_and_its_split_kept(self, tmp_path):
        write_images(tmp_path, {"cat": 20, "dog": 20}, colour=True)
        params = params_of(seed=5)
        batches = fetch_dataloader(["train", "val"], tmp_path, params)
        assert batches["train"].tensors[0].data_ptr() == batches["val"].tensors[0].data_ptr()
        assert params.image_channels == 3
        assert params.split["val"] == batches["val"].names
        for split in ("train", "val"):
            labels = torch.cat([batches[split].batch(rows)[1] for rows in batches[split].rows.split(4)]).tolist()
            assert [name.split("/")[0] for name in batches[split].names] == [params.classes[label] for label in labels]
        known = params_of(**vars(params) | {"seed": 6})
        assert fetch_dataloader(["test"], tmp_path, known)["test"].names == params.split["test"]

    @pytest.mark.parametrize(("sides", "size"), [((10, 20, 90), 20), ((200, 300, 300), 128)])
    def test_the_image_size_is_the_median_side_and_said_aloud(self, tmp_path, sides, size, caplog):
        for number, side in enumerate(sides):
            write_images(tmp_path / "train", {f"class{number}": 1}, side)
            write_images(tmp_path / "val", {f"class{number}": 1}, side)
        params = params_of()
        with caplog.at_level(logging.INFO):
            fetch_dataloader(["train", "val"], tmp_path, params)
        assert params.image_size == size
        assert f"Images are scaled to {size} x {size}" in caplog.text

    def test_the_log_says_what_there_is_and_what_guessing_would_score(self, folder, caplog):
        with caplog.at_level(logging.INFO):
            fetch_dataloader(["train", "val"], folder, params_of())
        assert "train: 40 images (cat: 10, dog: 20, eel: 10)" in caplog.text
        assert 'Always guessing "dog" would score 0.500 on val' in caplog.text

    def test_many_classes_are_no_screenful(self, tmp_path, caplog):
        for number in range(21):
            write_images(tmp_path / "flat", {f"class{number:02}": 4 + number // 20}, 4)
        with caplog.at_level(logging.INFO):
            fetch_dataloader(["train", "val"], tmp_path / "flat", params_of())
        assert "train: 43 images (21 classes, from class00: 2 to class20: 3)" in caplog.text
        assert max(map(len, caplog.messages)) < 200

    def test_what_is_cut_off_is_said_and_a_param_keeps_it(self, tmp_path, caplog):
        """The end of a panorama, which the middle square does not reach."""
        for split in ("train", "val"):
            for number, name in enumerate(("left", "right")):
                (tmp_path / split / name).mkdir(parents=True)
                pixels = np.zeros((8, 32), np.uint8)
                pixels[:, -4:] = 200 * number
                Image.fromarray(pixels).save(tmp_path / split / name / "a.png")
        reached = {}
        for fit in ("crop", "pad", "squeeze"):
            caplog.clear()
            with caplog.at_level(logging.INFO):
                batches = fetch_dataloader(["train", "val"], tmp_path, params_of(image_fit=fit))
            reached[fit] = int(batches["train"].tensors[0].max()) > 100
            told = "train: 2 of 2 images lose more than a quarter at their ends" in caplog.text
            assert told == (fit == "crop")
        assert reached == {"crop": False, "pad": True, "squeeze": True}

    def test_what_is_not_read_is_kept_with_the_experiment(self, folder):
        (folder / "train" / "cat" / "photo.heic").touch()
        params = params_of()
        fetch_dataloader(["train", "val"], folder, params)
        assert params.not_read == {".heic": 1}

    @pytest.mark.parametrize(
        "option",
        [
            {"flip": 1},
            {"shift": 0.6},
            {"rotate": "much"},
            {"scale": -0.1},
            {"cutout": 2},
            {"image_size": "64"},
            {"image_fit": "fill"},
        ],
    )
    def test_an_option_out_of_range_is_refused(self, folder, option):
        with pytest.raises(UserError, match=f'experiments/mine/params.json: "{next(iter(option))}" must be'):
            fetch_dataloader(["train", "val"], folder, params_of(**option))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Written by two processes at once."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    code = (
        f"import engine.data.sample_data, pathlib; engine.data.sample_data.write_digits(pathlib.Path({str(folder)!r}))"
    )
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate(timeout=300)[1] for process in processes] == [b"", b""]
    return folder


class TestSampleData:
    def test_they_are_there_once_and_whole(self, digits):
        assert [path.name for path in digits.parent.iterdir()] == ["digits"]
        assert len(list(digits.rglob("*.png"))) == 1797

    def test_they_are_an_image_folder(self, digits):
        params = params_of()
        batches = fetch_dataloader(ALL, digits, params)
        assert params.classes == [str(digit) for digit in range(10)]
        assert (params.image_size, params.image_channels) == (8, 1)
        assert {split: round(len(batches[split].names) / 1797, 2) for split in ALL} == {
            "train": 0.7,
            "val": 0.15,
            "test": 0.15,
        }
        assert batches["train"].tensors[0].max() == 255


def net_params(**values):
    known = {"image_size": 16, "image_channels": 1, "num_channels": 4, "classes": ["a", "b", "c"]}
    return params_of(**known | {"class_counts": [1, 2, 3], **values})


class TestNet:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("size", [4, 8, 9, 31, 32, 64, 100, 128, 224])
    def test_it_adapts_to_the_images(self, size, channels):
        net = Net(net_params(image_size=size, image_channels=channels, num_channels=2))
        assert net(torch.randn(2, channels, size, size)).shape == (2, 3)
        places = net.features(torch.randn(1, channels, size, size)).shape[2:]
        assert 4 <= places[0] <= 7

    def test_a_last_batch_of_one_example_can_be_trained_on(self):
        for size in (4, 8, 32):
            Net(net_params(image_size=size)).train()(torch.randn(1, 1, size, size)).sum().backward()

    def test_it_learns_one_batch_by_heart(self):
        torch.manual_seed(0)
        params = net_params(image_size=8, num_channels=8)
        net, inputs, labels = Net(params), torch.randn(12, 1, 8, 8), torch.arange(12) % 3
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(40):
            optimizer.zero_grad()
            loss = loss_fn(net(inputs), labels, params)
            loss.backward()
            optimizer.step()
        assert loss < 0.05
        assert metrics(params)["accuracy"](net(inputs).detach().numpy(), labels.numpy()) == 1

    @pytest.mark.parametrize(
        "option", [{"num_channels": 0}, {"dropout_rate": 1.5}, {"label_smoothing": "0.1"}, {"class_weights": True}]
    )
    def test_an_option_out_of_range_is_refused(self, option):
        params = net_params(**option)
        with pytest.raises(UserError, match=f'"{next(iter(option))}" must be'):
            loss_fn(Net(params)(torch.randn(2, 1, 16, 16)), torch.tensor([0, 1]), params)


class TestLoss:
    outputs, labels = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)), torch.arange(9) // 4

    def test_it_is_the_mean_over_the_batch(self):
        expected = -torch.log_softmax(self.outputs, dim=1)[torch.arange(9), self.labels].mean()
        assert float(loss_fn(self.outputs, self.labels, net_params())) == pytest.approx(float(expected))

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_with_weights_it_does_not_depend_on_the_batch_size(self, smoothing):
        params = net_params(class_weights="balanced", label_smoothing=smoothing)
        total, count = loss_fn(self.outputs, self.labels, params)
        parts = [loss_fn(self.outputs[i : i + 2], self.labels[i : i + 2], params) for i in range(0, 9, 2)]
        assert float(total / count) == pytest.approx(float(sum(t for t, _ in parts) / sum(c for _, c in parts)))

    def test_balanced_weights_make_classes_count_the_same(self):
        params = net_params(class_weights="balanced", class_counts=[4, 4, 1])
        total, count = loss_fn(self.outputs, self.labels, params)
        each = -torch.log_softmax(self.outputs, dim=1)[torch.arange(9), self.labels]
        by_class = [each[self.labels == label].mean() for label in range(3)]
        assert float(total / count) == pytest.approx(float(sum(by_class) / 3))

    def test_weights_only_weigh(self):
        params = net_params(class_weights="balanced", class_counts=[100, 10, 1])
        total, count = loss_fn(torch.zeros(9, 3), self.labels, params)
        assert float(total / count) == pytest.approx(np.log(3))  # as it is for every example

    def test_label_smoothing_spreads_its_share_over_all_classes(self):
        loss = loss_fn(self.outputs, self.labels, net_params(label_smoothing=0.3))
        log_probabilities = torch.log_softmax(self.outputs, dim=1)
        targets = 0.7 * torch.eye(3)[self.labels] + 0.1
        assert float(loss) == pytest.approx(float(-(targets * log_probabilities).sum(dim=1).mean()))


class TestReport:
    def predictions(self, guesses):
        classes, labels = ["ape", "bee $^$", "cow"], [0, 1, 2, 0, 1]
        columns = {
            "file": [f"{i}.png" for i in range(5)],
            "label": [classes[i] for i in labels],
            "prediction": [classes[i] for i in guesses],
            "probability": [0.5, 0.6, 0.7, 0.8, 0.9],
        }
        images = torch.arange(0, 250, 25, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 1, 8, 8)
        batches = SimpleNamespace(tensors=(images,), rows=torch.arange(5) + 5)
        return SimpleNamespace(split="test", columns=columns, classes=classes, batches=batches)

    def test_it_leaves_two_pictures_and_a_table(self, tmp_path, caplog):
        with caplog.at_level(logging.INFO):
            report(self.predictions([0, 1, 2, 1, 1]), tmp_path)
        for name in ("confusion_test.png", "mistakes_test.png"):
            with Image.open(tmp_path / name) as image:
                assert min(image.size) > 100
        rows = {line.split("  ")[0]: line.split()[-4:] for line in caplog.text.splitlines()}
        assert rows["ape"] == ["1.000", "0.500", "0.667", "2"]
        assert rows["bee $^$"] == ["0.667", "1.000", "0.800", "2"]
        assert rows["mean"] == ["0.889", "0.833", "0.822", "5"]

    def test_mistakes_are_shown_surest_first_with_their_images(self):
        from engine.training.classification import mistakes_figure

        first, second = mistakes_figure(self.predictions([1, 1, 2, 0, 2]), range(5)).axes
        assert first.get_title() == "true bee $^$\npredicted cow\n90% sure"
        assert second.get_title() == "true ape\npredicted bee $^$\n50% sure"
        assert [int(axes.images[0].get_array().max()) for axes in (first, second)] == [225, 125]

    def test_confusions_are_counted_by_true_class_in_rows(self):
        from engine.training.classification import confusion_figure

        figure = confusion_figure(np.array([[3, 1], [0, 4]]), ["a", "b"], "val")
        counts = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
        assert counts == {(0, 0): "3", (1, 0): "1", (1, 1): "4"}
        assert figure.axes[0].get_title() == "val: 7 of 8 right"

    def test_no_mistakes_are_said_so(self, tmp_path):
        from engine.training.classification import mistakes_figure

        figure = mistakes_figure(self.predictions([0, 1, 2, 0, 1]), range(5))
        assert figure.texts[0].get_text() == "test: no mistakes in 5 images"
        report(self.predictions([0, 1, 2, 0, 1]), tmp_path)
        assert (tmp_path / "mistakes_test.png").stat().st_size > 1000


def test_folds_and_images_without_labels_from_the_command_line(script, tmp_path, experiment):
    generator = np.random.default_rng(0)
    for name, count in {"train/dark": 8, "train/light": 8, "test/dark": 2, "test/light": 2, "photos": 3}.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 100, (8, 8)) + (150 if "light" in name else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "data" / name / f"{number}.png")
    params = {"data_dir": str(tmp_path / "data"), "num_epochs": 1, "num_channels": 4, "batch_size": 8, "folds": 4}
    held_out = []
    for fold in range(4):
        folder = experiment(f"fold_{fold}", **params, fold=fold)
        done = script("train", "--model_dir", folder)
        assert done.status == 0, done.stderr
        held_out += json.loads((folder / "data.json").read_text())["split"]["val"]
    assert len(held_out) == len(set(held_out)) == 16
    done = script("evaluate", "--model_dir", folder, "--split", "photos")
    assert done.status == 0, done.stderr
    lines = (folder / "predictions_photos.csv").read_text().splitlines()
    assert lines[0] == "file,prediction,probability"
    assert [line.split(",")[0] for line in lines[1:]] == ["photos/0.png", "photos/1.png", "photos/2.png"]
    assert "no labels, only predictions" in done.stdout


def test_images_without_labels_lie_in_a_folder_of_another_data_set(script, tmp_path, experiment):
    write_images(tmp_path / "flat", {"dark": 8, "light": 8})
    write_images(tmp_path / "unlabelled", {"new": 3})
    folder = experiment("mine", data_dir=str(tmp_path / "flat"), num_epochs=1, num_channels=4, batch_size=8)
    assert script("train", "--model_dir", folder).status == 0
    done = script("evaluate", "--model_dir", folder, "--data_dir", tmp_path / "unlabelled", "--split", "new")
    assert done.status == 0, done.stderr
    (table,) = folder.glob("predictions_new*.csv")
    assert f"Wrote {table.name}, run.json" in done.stdout
    lines = table.read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["new/0.png", "new/1.png", "new/2.png"]


def test_images_to_predict_beside_the_classes_are_one_line_not_a_third_class(script, tmp_path, experiment):
    write_images(tmp_path / "flat", {"dark": 8, "light": 8, "test": 3})
    done = script("train", "--model_dir", experiment("mine", data_dir=str(tmp_path / "flat"), num_epochs=1))
    assert (done.status, done.stderr.count("\n")) == (2, 1)
    assert f"error: {tmp_path / 'flat' / 'test'}: is named like a split" in done.stderr


def test_new_images_are_predicted_as_evaluation_predicts_them(folder, experiment, script, tmp_path):
    mine = experiment("mine", data_dir=str(folder), num_epochs=1, batch_size=8, num_channels=4)
    assert script("train", "--model_dir", mine).status == 0
    assert script("evaluate", "--model_dir", mine).status == 0
    (folder / "test" / "cat" / "0.png").write_bytes(b"not an image")
    done = script("predict", "--model_dir", mine, folder / "test", "--out", tmp_path / "new.csv")
    lines = done.stderr.splitlines()
    assert lines[0] == f"{folder}/test/cat/0.png: not a readable image (of no format that is read here)"
    wanted, given = (
        {Path(row["file"]).relative_to(start): row for row in csv.DictReader(path.open())}
        for path, start in ((mine / "predictions_test.csv", "test"), (tmp_path / "new.csv", folder / "test"))
    )
    assert wanted.keys() - given.keys() == {Path("cat/0.png")}
    for name, row in given.items():
        assert row["prediction"] == wanted[name]["prediction"]
        assert float(row["probability"]) == pytest.approx(float(wanted[name]["probability"]), rel=1e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_images_whose_names_are_no_text_are_trained_on_and_told(folder, experiment, script, tmp_path):
    for split in ALL:
        (folder / split / "cat" / "0.png").rename(folder / split / "cat" / os.fsdecode(b"caf\xe9.png"))
    mine = experiment("mine", data_dir=str(folder), num_epochs=1, batch_size=8, num_channels=4)
    assert script("train", "--model_dir", mine).status == 0
    assert script("evaluate", "--model_dir", mine).status == 0
    done = script("predict", "--model_dir", mine, folder / "test", "--out", tmp_path / "new.jsonl")
    assert (done.status, done.stderr) == (0, "")
    with (mine / "predictions_test.csv").open(encoding="utf-8") as file:
        assert r"test/cat/caf\udce9.png" in {row["file"] for row in csv.DictReader(file)}
    told = {json.loads(line)["file"] for line in (tmp_path / "new.jsonl").read_text(encoding="utf-8").splitlines()}
    assert os.path.join(folder, "test", "cat", os.fsdecode(b"caf\xe9.png")) in told


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_a_class_or_an_experiment_whose_name_is_no_text_is_one_line(folder, experiment, script, tmp_path):
    mine = experiment("mine", data_dir=str(folder), num_epochs=1)
    (folder / "train" / "cat").rename(folder / "train" / os.fsdecode(b"caf\xe9"))
    for words in (["--model_dir", mine], ["--model_dir", tmp_path / os.fsdecode(b"caf\xe9"), "--from", mine]):
        done = script("train", *words)
        assert (done.status, done.stderr.count("\n")) == (2, 1)
        assert "not UTF-8 text" in done.stderr


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        (["folds=5", "fold=2"], None),
        (["dropout_rate=0.5"], None),
        (["imagesize=32"], 'did you mean "image_size"'),
        (["dropuot_rate=0.5"], 'did you mean "dropout_rate"'),
    ],
    ids=str,
)
def test_what_the_task_reads_can_be_set_and_a_slip_in_it_cannot(tmp_path, settings, refused):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "params.json").write_text('{"num_channels": 8}')
    if refused is None:
        assert plan_training(tmp_path / "new", source=str(tmp_path / "base"), settings=settings).to_write
    else:
        with pytest.raises(UserError, match=refused):
            plan_training(tmp_path / "new", source=str(tmp_path / "base"), settings=settings)


def test_a_fold_without_folds_does_nothing_in_silence_no_more(folder):
    with pytest.raises(UserError, match='"fold" is one of the parts that "folds" says'):
        fetch_dataloader(["train", "val"], folder, params_of(fold=2))
