"""The examples on images: each experiment trains and is evaluated on a little made data, as its README says."""
# ruff: noqa: E402  # what may not be there can only be imported after a look

import hashlib
import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from engine.hyperparameters import load_params

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PACKAGES = ("signs", "mnist", "cifar10", "transfer")
if not all((EXAMPLES / name / "net.py").is_file() for name in PACKAGES):
    pytest.skip("the examples are not there any more", allow_module_level=True)

import examples.cifar10.data_loader
import examples.cifar10.net
import examples.mnist.data_loader
import examples.mnist.net
import examples.signs.build_dataset as build_dataset
import examples.signs.data_loader
import examples.signs.net
import examples.transfer.data_loader
import examples.transfer.net
from engine.data.batches import TensorBatches
from engine.data.feed import Feed
from engine.data.membership import fingerprint
from engine.errors import UserError

ALL = ("train", "val", "test")
BRIEF = {"num_epochs": 1, "max_train_batches": 2, "max_eval_batches": 1, "batch_size": 4, "save_summary_steps": 1}


def params_of(package, experiment, **values):
    """The params of a shipped experiment, some of them changed."""
    path = EXAMPLES / package / "experiments" / experiment / "params.json"
    return load_params(path, {**json.loads(path.read_text()), **values})


def learned(params):
    """The same hyperparameters, what was learned from the data among them: as an evaluation has them."""
    again = load_params("params.json", params.effective())
    again.learn(params.learned())
    return again


def pictures(count, side, seed=0):
    """Random pictures, uint8 (count, side, side, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


# What the real data sets look like, made small


@pytest.fixture(scope="module")
def signs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signs")
    for split, count in (("train", 24), ("val", 12), ("test", 12)):
        (folder / f"{split}_signs").mkdir()
        for number, pixels in enumerate(pictures(count, 64)):
            Image.fromarray(pixels).save(folder / f"{split}_signs" / f"{number % 6}_IMG_{number} (1).jpg")
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Four files as MNIST comes: a header of big-endian numbers, then bytes."""
    folder = tmp_path_factory.mktemp("digits")
    (folder / "MNIST" / "raw").mkdir(parents=True)
    for name, count in (("train", 60), ("t10k", 20)):
        images, labels = pictures(count, 28)[..., 0], (np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = np.array([2048 + array.ndim, *array.shape], dtype=">i4").tobytes()
            (folder / "MNIST" / "raw" / f"{name}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return folder


CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PICKLES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


@pytest.fixture(scope="module")
def pickles(tmp_path_factory):
    """The files that torchvision unpacks, each with 20 photographs."""
    folder = tmp_path_factory.mktemp("pickles")
    (folder / "cifar-10-batches-py").mkdir()
    for number, name in enumerate(PICKLES):
        pixels = pictures(20, 32, seed=number).transpose(0, 3, 1, 2).reshape(20, -1)
        content = {"data": pixels, "labels": [index % 10 for index in range(20)]}
        (folder / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(content))
    (folder / "cifar-10-batches-py" / "batches.meta").write_bytes(pickle.dumps({"label_names": CLASSES}))
    return folder


class Genuine:
    """Has torchvision take the made pickles in a folder for the real ones; goes with a process that is forked."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, setattr=setattr):
        from torchvision.datasets import CIFAR10

        def listed(name):
            return [name, hashlib.md5((self.folder / "cifar-10-batches-py" / name).read_bytes()).hexdigest()]

        setattr(CIFAR10, "train_list", [listed(name) for name in PICKLES[:5]])
        setattr(CIFAR10, "test_list", [listed("test_batch")])
        meta = {"filename": "batches.meta", "key": "label_names", "md5": listed("batches.meta")[1]}
        setattr(CIFAR10, "meta", meta)


@pytest.fixture
def genuine(pickles, monkeypatch):
    Genuine(pickles)(monkeypatch.setattr)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """CIFAR-10 as a folder of images; without test/, also what a person's own photographs may look like."""
    folder = tmp_path_factory.mktemp("photographs")
    for split, count in (("train", 10), ("test", 2)):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
            for number, pixels in enumerate(pictures(count, 32, seed=len(name))):
                Image.fromarray(pixels).save(folder / split / name / f"photo {number}.png")
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """What TORCH_HOME is to be: a cache that has the weights of ResNet-18 already, here random ones."""
    from torchvision.models import resnet18

    folder = tmp_path_factory.mktemp("home")
    (folder / "hub" / "checkpoints").mkdir(parents=True)
    torch.manual_seed(7)
    torch.save(resnet18().state_dict(), folder / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    return folder


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """No test reads or fills the cache of whoever runs it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))


class AtHome:
    """Sets TORCH_HOME in a process that is forked; nothing can be downloaded there."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self):
        import os

        os.environ["TORCH_HOME"] = str(self.folder)
        torch.hub.download_url_to_file = no_network


def no_network(*arguments, **options):
    raise URLError("no network")


@pytest.fixture
def trained(script, tmp_path):
    """Trains a shipped experiment for two batches, evaluates it, and returns its folder."""

    def run(package, name, data_dir, evaluated=True, options=None, **settings):
        folder = tmp_path / name
        source = EXAMPLES / package / "experiments" / name
        values = {**BRIEF, "data_dir": data_dir, **settings}
        words = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
        done = script("train", "--model_dir", folder, "--from", source, *words, **(options or {}))
        assert done.status == 0, done.stderr
        if evaluated:
            done = script("evaluate", "--model_dir", folder, **(options or {}))
            assert done.status == 0, done.stderr
            assert 0 <= json.loads((folder / "metrics_test_best.json").read_text())["accuracy"] <= 1
        return folder

    return run


SHIPPED = [path for name in PACKAGES for path in sorted((EXAMPLES / name).glob("experiments/*/params.json"))]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: "-".join(path.parts[-4:-1:2]))
def test_params_name_their_own_package_and_say_what_to_expect(path):
    values = json.loads(path.read_text())
    assert values["task"] == f"examples.{path.parent.parent.parent.name}"
    assert values["_expect"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: "-".join(path.parts[-4:-1:2]))
def test_each_has_a_data_folder_of_its_own(path):
    """In a shared one, another data set that comes in would be taken for a change of this one's data."""
    assert len(Path(json.loads(path.read_text())["data_dir"]).parts) > 1


@pytest.mark.parametrize("package", PACKAGES)
def test_the_readme_is_short_and_tells_of_each_experiment(package):
    text = (EXAMPLES / package / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    told = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert sorted(told) == [path.parent.name for path in SHIPPED if path.parts[-4] == package]
    for folder in re.findall(r"(?:--model_dir|--from) (examples/\S+)", text):
        assert (ROOT / folder / "params.json").is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_copy_is_a_project(package, trained, request, tmp_path, hub):
    """`cp -r examples/mnist model`, then the experiments with `--set task=model`."""
    fixtures = {"signs": "signs", "mnist": "digits", "cifar10": "photographs", "transfer": "photographs"}
    name = {"transfer": "frozen", "signs": "modern"}.get(package, "fast")
    shutil.copytree(EXAMPLES / package, tmp_path / "project" / "model")
    settings = {"num_channels": 2} if package == "cifar10" else {}
    settings |= {"image_size": 32} if package == "transfer" else {}
    data = request.getfixturevalue(fixtures[package])
    options = {"cwd": tmp_path / "project", "before": AtHome(hub)}
    folder = trained(package, name, data, evaluated=False, options=options, task="model", **settings)
    assert (folder / "best.pth.tar").is_file()
    record = json.loads((folder / "run.json").read_text())
    assert sorted(record["code"]) == [f"model/{path.name}" for path in sorted((EXAMPLES / package).glob("*.py"))]
    for path in (tmp_path / "project").rglob("*.py"):
        assert "examples." not in path.read_text()


class TestSigns:
    @pytest.mark.parametrize("name", ["course", "modern"])
    def test_it_trains_and_is_evaluated(self, name, trained, signs):
        folder = trained("signs", name, signs)
        assert (folder / "confusion_test.png").is_file()
        assert json.loads((folder / "data.json").read_text())["classes"] == ["0", "1", "2", "3", "4", "5"]

    def test_the_course_s_network_is_what_it_was(self):
        params = params_of("signs", "course", classes=list("012345"))
        net = examples.signs.net.Net(params)
        convolutions = [(3, 32), (32, 64), (64, 128)]
        expected = sum(9 * a * b + b + 2 * b for a, b in convolutions) + 8192 * 128 + 128 + 2 * 128 + 128 * 6 + 6
        assert sum(parameter.numel() for parameter in net.parameters()) == expected
        assert [layer.p for layer in net.layers if isinstance(layer, torch.nn.Dropout)] == [0.8]
        kinds = [type(layer).__name__ for layer in net.layers]
        assert kinds[:4] == kinds[4:8] == kinds[8:12] == ["Conv2d", "BatchNorm2d", "MaxPool2d", "ReLU"]
        assert kinds[12:] == ["Flatten", "Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear", "LogSoftmax"]

    def test_its_hyperparameters_are_the_course_s(self):
        params = params_of("signs", "course")
        assert (params.learning_rate, params.batch_size, params.num_epochs) == (1e-3, 32, 10)
        assert (params.optimizer, params.schedule, params.flip) == ("Adam", "constant", True)

    @pytest.mark.parametrize("name", ["course", "modern"])
    def test_a_network_gives_log_probabilities_of_the_classes(self, name):
        net = examples.signs.net.Net(params_of("signs", name, classes=list("0123")))
        outputs = net(torch.rand(2, 3, 64, 64))
        torch.testing.assert_close(outputs.exp().sum(dim=1), torch.ones(2))
        assert outputs.shape == (2, 4)

    def test_how_many_images_are_val_is_a_hyperparameter(self, photographs):
        params = params_of("cifar10", "tutorial", val_every=25)
        batches = examples.cifar10.data_loader.fetch_dataloader(ALL, photographs, params)
        assert [len(batches[split].rows) for split in ALL] == [96, 4, 20]

    def test_a_residual_block_adds_to_its_input(self):
        check_residual(examples.signs.net.Residual(3))

    def test_the_loss_by_hand_is_torch_s(self):
        outputs, labels = torch.log_softmax(torch.randn(5, 6), dim=1), torch.tensor([0, 5, 2, 2, 1])
        for name, share in (("course", 0.0), ("modern", 0.1)):
            expected = torch.nn.functional.cross_entropy(outputs, labels, label_smoothing=share)
            loss = examples.signs.net.loss_fn(outputs, labels, params_of("signs", name))
            torch.testing.assert_close(loss, expected)

    def test_batches_are_numbers_from_0_to_1_with_the_label_of_the_name(self, signs):
        batches = examples.signs.data_loader.fetch_dataloader(["val"], signs, params_of("signs", "course"))["val"]
        images, labels = next(iter(batches))
        assert (images.shape, images.dtype) == ((12, 3, 64, 64), torch.float32)
        assert images.min() == 0
        assert images.max() == 1
        assert [name.split("/")[1][0] for name in batches.names] == [str(label) for label in labels.tolist()]

    def test_without_val_images_some_are_drawn_that_are_not_trained_on(self, signs, tmp_path):
        for split in ("train", "test"):
            shutil.copytree(signs / f"{split}_signs", tmp_path / f"{split}_signs")
        batches = examples.signs.data_loader.fetch_dataloader(ALL, tmp_path, params_of("signs", "course"))
        assert [len(batches[split].rows) for split in ALL] == [18, 6, 12]
        assert not set(batches["train"].names) & set(batches["val"].names)

    def test_only_training_is_shuffled_and_varied(self, signs):
        check_only_training_varies(examples.signs.data_loader, signs, params_of("signs", "modern", flip=True))


def check_residual(block):
    """A block whose weights are all 0 gives what it takes."""
    images = torch.randn(2, 3, 4, 4)
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(block(images), images)


@pytest.mark.parametrize(
    ("package", "name", "expected"),
    [
        ("signs", "course", {"flip": True}),
        ("signs", "modern", {"shift": 0.1, "rotate": 15.0, "scale": 0.15}),
        ("mnist", "tutorial", {}),
        ("mnist", "fast", {"shift": 0.08}),
        ("cifar10", "tutorial", {}),
        ("cifar10", "resnet18", {"flip": True, "crop": 0.08}),
        ("cifar10", "fast", {"shift": 0.125, "cutout": 0.25}),
        ("cifar10", "speed", {"shift": 0.078, "reflect": True}),
        ("transfer", "frozen", {"flip": True, "crop": 0.5}),
        ("transfer", "finetune", {"flip": True, "crop": 0.5}),
    ],
)
def test_how_the_training_images_are_varied(package, name, expected, request):
    """As the params say, and the val images not at all."""
    data_dir = request.getfixturevalue({"signs": "signs", "mnist": "digits"}.get(package, "photographs"))
    params = params_of(package, name, **({"image_size": 32} if package == "transfer" else {}))
    batches = getattr(examples, package).data_loader.fetch_dataloader(["train", "val"], data_dir, params)
    for split, wanted in (("train", expected), ("val", {})):
        transform = vars(batches[split].transform)
        options = ("flip", "shift", "rotate", "scale", "cutout", "crop", "reflect")
        assert {option: transform[option] for option in options if transform[option]} == wanted


def check_only_training_varies(data_loader, data_dir, params):
    """Batches to train on are shuffled and varied; the same images to evaluate on are in order and as they are."""
    training = data_loader.fetch_dataloader(["train"], data_dir, params)["train"]
    first, second = (torch.cat([inputs for inputs, _ in training]) for _ in range(2))
    assert not torch.equal(first, second)
    assert training.shuffle
    known = learned(params)
    evaluated = data_loader.fetch_dataloader(["train", "val"], data_dir, known)
    for split in ("train", "val"):
        once, twice = (torch.cat([inputs for inputs, _ in evaluated[split]]) for _ in range(2))
        assert torch.equal(once, twice)
    rows = training.rows[:8]
    varied = [training.batch(rows)[0] for _ in range(2)]
    assert not torch.equal(*varied)


class TestBuildDataset:
    @pytest.fixture
    def originals(self, tmp_path):
        """Photographs with spaces in their names, one in capitals, and a file that macOS leaves behind."""
        folder = tmp_path / "my data" / "SIGNS"
        for split, count in (("train", 20), ("test", 4)):
            (folder / f"{split}_signs").mkdir(parents=True)
            for number, pixels in enumerate(pictures(count, 100)):
                Image.fromarray(pixels).save(folder / f"{split}_signs" / f"{number % 6}_IMG_{number} (1).jpg")
        (folder / "train_signs" / "0_IMG_0 (1).jpg").rename(folder / "train_signs" / "0_IMG_0.JPG")
        (folder / "train_signs" / "._0_IMG_1.jpg").write_bytes(b"Mac")
        (folder / "train_signs" / "notes.txt").write_text("by hand")
        return folder

    @pytest.fixture
    def output(self, tmp_path):
        return tmp_path / "made" / "64x64_SIGNS"

    def test_photographs_are_scaled_and_a_fifth_is_val(self, originals, output, capsys):
        build_dataset.main(["--data_dir", str(originals), "--output_dir", str(output)])
        assert "24 photographs" in capsys.readouterr().out
        made = {split: sorted(path.name for path in (output / f"{split}_signs").iterdir()) for split in ALL}
        assert {split: len(names) for split, names in made.items()} == {"train": 16, "val": 4, "test": 4}
        there = sorted(path.name for path in (originals / "train_signs").glob("[0-9]*"))
        assert sorted(made["train"] + made["val"]) == there
        name = made["val"][0]
        with Image.open(originals / "train_signs" / name) as image:
            expected = image.resize((64, 64), Image.Resampling.BILINEAR)
        with Image.open(output / "val_signs" / name) as image:
            assert image.size == (64, 64)
            assert np.abs(np.asarray(image, int) - np.asarray(expected, int)).mean() < 25  # JPEG's own loss of noise
        assert list(output.parent.iterdir()) == [output]
        assert output.stat().st_mode & 0o055 == 0o055  # others may read it

    def test_the_split_is_the_course_s(self, tmp_path):
        """As its script draws it: sorted, shuffled by `random` from 230, cut at 80 %."""
        import random

        names = [f"{number}_IMG_{number}.jpg" for number in range(10)]
        for split in ("train_signs", "test_signs"):
            (tmp_path / split).mkdir()
            for name in names:
                (tmp_path / split / name).touch()
        places = build_dataset.split_photographs(tmp_path)
        random.seed(230)
        random.shuffle(names)
        assert [place.name for place in places.values() if place.parent.name == "train_signs"] == names[:8]
        assert [place.name for place in places.values() if place.parent.name == "val_signs"] == names[8:]

    def test_a_second_time_changes_nothing(self, originals, output, capsys):
        arguments = ["--data_dir", str(originals), "--output_dir", str(output)]
        build_dataset.main(arguments)
        before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
        build_dataset.main(arguments)
        assert "is there already" in capsys.readouterr().out
        assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before

    @pytest.mark.parametrize("change", ["one less", "one more", "something else"])
    def test_a_folder_with_other_files_is_never_mixed_into(self, originals, output, change, capsys):
        arguments = ["--data_dir", str(originals), "--output_dir", str(output)]
        build_dataset.main(arguments)
        if change == "one less":
            next((output / "train_signs").iterdir()).unlink()
        elif change == "one more":
            (output / "val_signs" / "0_IMG_new.jpg").touch()
        else:
            shutil.rmtree(output)
            output.mkdir()
        before = sorted(output.rglob("*"))
        with pytest.raises(SystemExit) as ended:
            build_dataset.main(arguments)
        assert ended.value.code == 2
        assert f"{output}: is there already" in capsys.readouterr().err
        assert sorted(output.rglob("*")) == before

    def test_a_damaged_photograph_is_named_in_one_line_and_nothing_is_left(self, originals, output, tmp_path):
        damaged = originals / "train_signs" / "5_IMG_5 (1).jpg"
        damaged.write_bytes(damaged.read_bytes()[:2000])
        command = [sys.executable, EXAMPLES / "signs" / "build_dataset.py"]  # by its path, from anywhere
        arguments = ["--data_dir", originals, "--output_dir", output]
        done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2
        errors = [line for line in done.stderr.splitlines() if "photo/s" not in line]
        assert len(errors) == 1
        assert errors[0].startswith(f"error: {damaged}: not a readable photograph")
        assert list(output.parent.iterdir()) == []

    def test_a_folder_without_photographs_is_named(self, tmp_path, output, capsys):
        with pytest.raises(SystemExit) as ended:
            build_dataset.main(["--data_dir", str(tmp_path), "--output_dir", str(output)])
        assert ended.value.code == 2
        assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'train_signs'}: holds no photographs")


class TestMnist:
    @pytest.mark.parametrize("name", ["tutorial", "fast"])
    def test_it_trains_and_is_evaluated(self, name, trained, digits):
        trained("mnist", name, digits)

    def test_every_tenth_train_image_is_val_and_test_is_all_there_is(self, digits):
        params = params_of("mnist", "tutorial")
        batches = examples.mnist.data_loader.fetch_dataloader(ALL, digits, params)
        rows = {split: batches[split].rows.tolist() for split in ALL}
        assert rows["val"] == [0, 10, 20, 30, 40, 50]
        assert sorted(rows["train"] + rows["val"]) == list(range(60))
        assert rows["test"] == list(range(20))
        images, labels = next(iter(batches["test"]))
        assert labels.tolist() == [number % 10 for number in range(20)]
        expected = torch.from_numpy(pictures(20, 28)[..., 0]).unsqueeze(1).float() / 127.5 - 1
        torch.testing.assert_close(images, expected)
        assert params.classes == list("0123456789")

    def test_only_training_is_shuffled_and_varied(self, digits):
        check_only_training_varies(examples.mnist.data_loader, digits, params_of("mnist", "fast"))

    def test_the_tutorial_s_network_has_three_convolutions_and_three_linear_layers(self):
        net = examples.mnist.net.Net(params_of("mnist", "tutorial"))
        kinds = [layer for layer in net.layers if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
        assert [getattr(layer, "out_channels", "linear") for layer in kinds] == [32, 32, 32, *["linear"] * 3]
        params = params_of("mnist", "tutorial")
        assert (params.learning_rate, params.betas, params.batch_size) == (1e-4, [0.5, 0.999], 64)
        assert params.num_epochs == 10

    def test_without_files_and_network_one_line_says_what_to_do(self, tmp_path, monkeypatch):
        monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", no_network)
        with pytest.raises(UserError, match=r"(?s)MNIST is not there and cannot be downloaded.*MNIST/raw"):
            examples.mnist.data_loader.fetch_dataloader(["train"], tmp_path, params_of("mnist", "fast"))


class TestCifar10:
    @pytest.mark.parametrize("name", ["tutorial", "resnet18", "fast"])
    def test_it_trains_and_is_evaluated_on_a_folder(self, name, trained, photographs):
        trained("cifar10", name, photographs, **({"num_channels": 2} if name == "fast" else {}))

    def test_the_one_for_speed_trains_and_is_evaluated_with_what_it_learned_of_patches(self, trained, photographs):
        folder = trained("cifar10", "speed", photographs, num_channels=2, compile="false", whitening_images=20)
        assert np.shape(json.loads((folder / "data.json").read_text())["whitening"]) == (12, 12)

    def test_it_trains_and_is_evaluated_on_what_torchvision_downloads(self, trained, pickles):
        trained("cifar10", "fast", pickles, num_channels=2, options={"before": Genuine(pickles)})

    def test_the_download_is_read_in_its_order(self, genuine, pickles):
        params = params_of("cifar10", "tutorial")
        batches = examples.cifar10.data_loader.fetch_dataloader(["val", "test"], pickles, params)
        expected = np.concatenate([pictures(20, 32, seed=number) for number in range(5)])[::10]
        images = batches["val"].tensors[0][batches["val"].rows]
        torch.testing.assert_close(images, torch.from_numpy(expected).permute(0, 3, 1, 2))
        assert batches["test"].tensors[0].shape == (20, 3, 32, 32)
        assert batches["test"].tensors[1].tolist() == [index % 10 for index in range(20)]
        assert params.classes == CLASSES

    def test_a_folder_gives_the_same_classes_and_a_tenth_of_each_as_val(self, photographs):
        params = params_of("cifar10", "tutorial")
        batches = examples.cifar10.data_loader.fetch_dataloader(ALL, photographs, params)
        assert params.classes == CLASSES
        assert batches["val"].tensors[1][batches["val"].rows].tolist() == list(range(10))
        assert [len(batches[split].rows) for split in ALL] == [90, 10, 20]
        images, labels = next(iter(batches["test"]))
        expected = torch.from_numpy(pictures(2, 32, seed=len("airplane"))).permute(0, 3, 1, 2).float() / 127.5 - 1
        torch.testing.assert_close(images[labels == 0], expected)

    def test_only_training_is_shuffled_and_varied(self, photographs):
        params = params_of("cifar10", "resnet18")
        check_only_training_varies(examples.cifar10.data_loader, photographs, params)

    def test_each_look_at_an_image_mirrors_the_one_before(self):
        """Two looks in each pass, and so from the last look of a pass to the first one of the next."""
        images, labels = torch.from_numpy(pictures(11, 4)).permute(0, 3, 1, 2), torch.arange(11)
        batches = examples.cifar10.data_loader.AlternatingFlip(images, labels, np.arange(11), batch_size=4)
        assert len(batches) == 6
        torch.manual_seed(0)
        looks, orders = {}, []
        for _ in range(3):
            shown, seen = (torch.cat(parts) for parts in zip(*batches, strict=True))
            for image, label in zip(shown, seen.tolist(), strict=True):
                plain, mirrored = torch.equal(image, images[label]), torch.equal(image, images[label].flip(2))
                assert plain != mirrored
                looks.setdefault(label, []).append(mirrored)
            orders += [seen[:11].tolist(), seen[11:].tolist()]
        for order in orders:
            assert sorted(order) == list(range(11))
        assert len({tuple(order) for order in orders}) == 6
        for several in looks.values():
            assert several in ([False, True] * 3, [True, False] * 3)
        assert sum(first for first, *_ in looks.values()) == 5

    def test_a_pass_that_is_gone_on_with_shows_what_it_would_have_shown(self, photographs):
        loader = examples.cifar10.data_loader.fetch_dataloader(
            ["train"], photographs, params_of("cifar10", "fast", batch_size=16)
        )["train"]
        whole, rest = (list(Feed(loader, seed=1).epoch(2, start)) for start in (0, 7))
        assert len(whole) == 12
        for batch, again in zip(whole[7:], rest, strict=True):
            assert all(map(torch.equal, batch, again))

    def test_the_fast_one_trains_on_mirrored_looks_and_evaluates_on_plain_ones(self, photographs):
        params = params_of("cifar10", "fast")
        training = examples.cifar10.data_loader.fetch_dataloader(["train", "val"], photographs, params)
        kinds = [type(training[split]).__name__ for split in ("train", "val")]
        assert kinds == ["AlternatingFlip", "TensorBatches"]
        known = examples.cifar10.data_loader.fetch_dataloader(["train"], photographs, learned(params))
        assert type(known["train"]) is TensorBatches
        assert len(known["train"].rows) == 90
        assert fingerprint(known["train"]) == fingerprint(training["train"])  # the same examples

    @pytest.mark.parametrize(("name", "count"), [("tutorial", 62_006), ("resnet18", 11_181_642), ("fast", 6_573_130)])
    def test_the_networks_are_as_large_as_they_ought_to_be(self, name, count):
        net = examples.cifar10.net.Net(params_of("cifar10", name, classes=CLASSES))
        assert sum(parameter.numel() for parameter in net.parameters()) == count
        assert net.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 10)

    @pytest.mark.parametrize("name", ["tutorial", "resnet18", "fast"])
    def test_a_folder_of_fewer_classes_has_fewer_outputs(self, name):
        net = examples.cifar10.net.Net(params_of("cifar10", name, classes=["cat", "dog"]))
        assert net.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 2)

    def test_a_folder_without_test_is_not_tested_on_something_else(self, photographs, tmp_path):
        """Where torchvision's download would come in place of one's own images."""
        shutil.copytree(photographs / "train", tmp_path / "train")
        with pytest.raises(UserError, match="has no test images"):
            examples.cifar10.data_loader.fetch_dataloader(["test"], tmp_path, params_of("cifar10", "tutorial"))

    def test_the_fast_one_says_the_same_of_an_image_and_of_its_mirror_image(self):
        """In evaluation; in training each of them counts for itself."""
        net = examples.cifar10.net.Net(params_of("cifar10", "fast", num_channels=2, classes=CLASSES))
        images = torch.rand(4, 3, 32, 32)
        assert not torch.allclose(net(images), net(images.flip(3)))
        net.eval()
        torch.testing.assert_close(net(images), net(images.flip(3)))
        each = [torch.nn.Sequential(*net.layers).eval()(some) for some in (images, images.flip(3))]
        torch.testing.assert_close(net(images), sum(each) / 2)

    def test_how_many_images_are_val_is_a_hyperparameter(self, photographs):
        params = params_of("cifar10", "tutorial", val_every=25)
        batches = examples.cifar10.data_loader.fetch_dataloader(ALL, photographs, params)
        assert [len(batches[split].rows) for split in ALL] == [96, 4, 20]

    def test_a_residual_block_adds_to_its_input_and_the_last_layer_gives_an_eighth(self):
        layer, features = examples.cifar10.net.Eighth(3, 10), torch.randn(2, 3)
        torch.testing.assert_close(layer(features), features @ layer.weight.T / 8 + layer.bias / 8)
        check_residual(examples.cifar10.net.Residual(3))

    def test_labels_are_smoothed_where_that_is_asked_for(self):
        outputs, labels = torch.randn(4, 10), torch.arange(4)
        plain, smoothed = (
            examples.cifar10.net.loss_fn(outputs, labels, params_of("cifar10", name)) for name in ("tutorial", "fast")
        )
        share = 0.8 * plain - 0.2 * torch.log_softmax(outputs, 1).mean()
        torch.testing.assert_close(smoothed, share)

    def test_without_files_and_network_one_line_says_what_to_do(self, tmp_path, monkeypatch):
        monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", no_network)
        with pytest.raises(UserError, match=r"(?s)CIFAR-10 is not there and cannot be downloaded.*train/<class>"):
            examples.cifar10.data_loader.fetch_dataloader(["train"], tmp_path, params_of("cifar10", "fast"))


class TestSpeed:
    """The network and the steps of Keller Jordan's record, against the same in plain PyTorch."""

    def made(self, **values):
        params = params_of("cifar10", "speed", **{"num_channels": 2, "classes": CLASSES, **values})
        params.whitening = torch.randn(12, 12).tolist()
        torch.manual_seed(0)
        return examples.cifar10.net.Net(params), params

    def test_whitened_patches_have_variances_of_1_and_nothing_in_common(self):
        """Pixels of photographs are like their neighbours; these are sums of neighbours."""
        noise = np.random.default_rng(0).normal(0, 40, (40, 3, 33, 33))
        images = (127 + noise[:, :, 1:, 1:] + noise[:, :, :-1, :-1]).clip(0, 255).astype(np.uint8)
        filters = examples.cifar10.data_loader.whitening(torch.from_numpy(images)).numpy()
        scaled = images / 127.5 - 1
        corners = [scaled[:, :, row : row + 31, column : column + 31] for row in (0, 1) for column in (0, 1)]
        patches = np.stack(corners, 2).reshape(40, 12, -1).swapaxes(0, 1).reshape(12, -1)
        together = filters @ patches @ patches.T @ filters.T / patches.shape[1]
        np.testing.assert_allclose(together, np.eye(12), atol=0.01)

    def test_what_is_next_to_nothing_stays_small(self):
        grey = torch.full((5, 3, 32, 32), 127, dtype=torch.uint8)
        assert examples.cifar10.data_loader.whitening(grey).abs().max() < 100

    def test_the_first_layer_whitens_in_both_signs_and_only_its_bias_learns(self):
        net, params = self.made()
        first, images = net.layers[0], torch.randn(2, 3, 8, 8)
        filters = torch.tensor(params.whitening).view(12, 3, 2, 2)
        expected = torch.nn.functional.conv2d(images, filters)
        shift = first.bias.view(1, -1, 1, 1)
        torch.testing.assert_close(first(images) - shift, torch.cat([expected, -expected], dim=1))
        assert (first.weight.requires_grad, first.bias.requires_grad) == (False, True)

    def test_it_is_as_large_as_the_record_s(self):
        net, _ = self.made(num_channels=64)
        filters = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
        learned = 24 + filters + 2 * 64 + 4 * 256 + 2560
        assert sum(weight.numel() for weight in net.parameters() if weight.requires_grad) == learned
        assert sum(weight.numel() for weight in net.parameters()) == learned + 12 * 24 + 2 * 64 + 4 * 256

    def test_a_matrix_is_a_convolution_that_begins_by_handing_on(self):
        layer, images = examples.cifar10.net.MatrixConvolution(3, 5), torch.randn(2, 3, 6, 6)
        filters = layer.weight.detach().reshape(5, 3, 3, 3).permute(0, 3, 1, 2)
        torch.testing.assert_close(layer(images), torch.nn.functional.conv2d(images, filters, padding=1))
        torch.testing.assert_close(layer(images)[:, :3], images)

    def test_it_evaluates_six_looks_and_trains_on_one(self):
        net, _ = self.made()
        images = torch.randn(2, 3, 32, 32)
        plain = torch.nn.Sequential(*net.layers)
        torch.testing.assert_close(net(images), plain(images))
        padded = np.pad(images.numpy(), [(0, 0), (0, 0), (1, 1), (1, 1)], mode="reflect")
        shifts = [(1, 1, 0.25), (0, 0, 0.125), (2, 2, 0.125)]
        looks = [(torch.from_numpy(padded[:, :, r : r + 32, c : c + 32]), share) for r, c, share in shifts]
        net.eval()
        expected = sum(share * (plain(look) + plain(look.flip(3))) for look, share in looks)
        torch.testing.assert_close(net(images), expected)

    def test_its_outputs_are_means_under_weights_of_deviation_1(self):
        layer, features = examples.cifar10.net.Mean(7, 10), torch.randn(2, 7)
        assert layer.weight.std().item() == pytest.approx(1)
        torch.testing.assert_close(layer(features), (features[:, None, :] * layer.weight).mean(2))

    def test_its_steps_are_the_record_s(self):
        """Two of them: there, matrices are brought to a size and moved by Muon, the rest by SGD on the batch's sum."""
        net, params = self.made(batch_size=8)
        optimizer = examples.cifar10.net.configure_optimizer(net, params)
        mine = {name: weight.detach().double() for name, weight in net.named_parameters()}
        memory = {name: torch.zeros_like(weight) for name, weight in mine.items()}
        for _ in range(2):
            optimizer.zero_grad()
            logits = net(torch.randn(8, 3, 32, 32))
            examples.cifar10.net.loss_fn(logits, torch.randint(10, (8,)), params).backward()
            for name, weight in net.named_parameters():
                if weight.grad is not None:
                    mine[name] = step_of_the_record(mine[name], 8 * weight.grad.double(), memory[name])
            optimizer.step()
            for name, weight in net.named_parameters():
                torch.testing.assert_close(weight.detach().double(), mine[name], rtol=0.02, atol=0.005, msg=name)

    def test_nothing_else_learns_and_all_rates_fall_together(self):
        net, params = self.made()
        groups = examples.cifar10.net.configure_optimizer(net, params).param_groups
        held = [id(weight) for group in groups for weight in group["params"]]
        assert sorted(held) == sorted(id(weight) for weight in net.parameters() if weight.requires_grad)
        assert [group["lr"] for group in groups] == pytest.approx([0.24, 106, 1340])


def step_of_the_record(weight, gradient, memory):
    """A weight after a step of airbench94_muon.py, by the gradient of the sum over the batch; changes its memory."""
    if weight.dim() == 2 and weight.shape[0] != 10:
        memory.mul_(0.6).add_(gradient)
        move = gradient + 0.6 * memory
        move = move / move.norm()
        for _ in range(3):
            square = move @ move.T
            move = 3.4445 * move + (-4.7750 * square + 2.0315 * square @ square) @ move
        return weight * len(weight) ** 0.5 / weight.norm() - 0.24 * move
    rate = 0.67 if weight.dim() == 2 else 0.053
    gradient = gradient + 2e-6 * 8 / rate * weight
    memory.mul_(0.85).add_(gradient)
    return weight - rate * (gradient + 0.85 * memory)


@pytest.mark.parametrize("package", ["signs", "mnist", "cifar10"])
def test_a_network_that_there_is_not_is_one_line(package):
    name = {"signs": "course"}.get(package, "tutorial")
    net = getattr(examples, package).net
    with pytest.raises(UserError, match=rf'{package}/experiments/{name}/params.json: "net" must be one of'):
        net.Net(params_of(package, name, net="resnet19", classes=["a", "b"]))


class TestTransfer:
    def test_frozen_then_unfrozen(self, trained, script, photographs, hub, tmp_path):
        """The weights come from the cache, only to begin; the second experiment begins where the first one ended."""
        settings = {"image_size": 32, "batch_size": 16}
        at_home, nowhere = {"before": AtHome(hub)}, {"before": AtHome(tmp_path / "nowhere")}
        frozen = trained("transfer", "frozen", photographs / "train", False, at_home, **settings)
        pretrained = torch.load(hub / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
        weights = torch.load(frozen / "best.pth.tar")["state_dict"]
        for name, tensor in pretrained.items():
            if not name.startswith("fc."):
                assert torch.equal(weights[f"backbone.{name}"], tensor), name
        done = script("evaluate", "--model_dir", frozen, **nowhere)
        assert done.status == 0, done.stderr
        assert (frozen / "mistakes_test.png").is_file()

        finetune = trained("transfer", "finetune", photographs / "train", False, nowhere, learning_rate=0, **settings)
        again = torch.load(finetune / "best.pth.tar")["state_dict"]
        assert torch.equal(again["head.weight"], weights["head.weight"])
        assert not torch.equal(again["backbone.conv1.weight"], weights["backbone.conv1.weight"])
        assert json.loads((finetune / "data.json").read_text())["classes"] == CLASSES

    def test_without_weights_and_network_one_line_says_what_to_do(self, script, photographs, tmp_path):
        words = ["--from", EXAMPLES / "transfer" / "experiments" / "frozen", "--set", f"data_dir={photographs}"]
        done = script("train", "--model_dir", tmp_path / "new", *words, before=AtHome(tmp_path / "nowhere"))
        assert done.status == 2
        error = done.stderr.splitlines()[-1]
        file = tmp_path / "nowhere" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
        assert error.startswith(f"error: {file}, the weights of ResNet-18, is not there and cannot be downloaded")
        assert error.endswith("; put it there, from https://download.pytorch.org/models/resnet18-f37072fd.pth")

    @pytest.mark.parametrize("kind", ["empty", "truncated", "a page", "of another network", "no weights"])
    def test_weights_that_are_none_are_one_line_that_is_true(self, kind, hub, tmp_path, monkeypatch):
        good = hub / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
        file = tmp_path / "home" / "hub" / "checkpoints" / good.name
        file.parent.mkdir(parents=True)
        contents = {"empty": b"", "truncated": good.read_bytes()[:100_000], "a page": b"<!DOCTYPE html><html>" * 99}
        if kind in contents:
            file.write_bytes(contents[kind])
        else:
            torch.save({"fc.weight": torch.zeros(2)} if kind == "of another network" else [1, 2], file)
        params = params_of("transfer", "frozen", classes=["a", "b"])
        params.provide(begins=True)
        with pytest.raises(UserError) as error:
            examples.transfer.net.Net(params)
        assert re.fullmatch(
            rf"{re.escape(str(file))}: no weights of ResNet-18 \(.+\); delete it, then they .*", str(error.value)
        )

    def test_images_without_labels_are_predicted(self, photographs, tmp_path):
        """They lie in a data folder of their own: in a flat one, beside the classes, they would be one more class."""
        params = params_of("transfer", "frozen", image_size=16)
        fetch = examples.transfer.data_loader.fetch_dataloader
        fetch(["train"], photographs, params)
        shutil.copytree(photographs / "test" / "cat", tmp_path / "new")
        batches = fetch(["new"], tmp_path, learned(params))["new"]
        assert [len(batch) for batch in batches] == [1]
        assert batches.names == ["new/photo 0.png", "new/photo 1.png"]

    def test_a_split_stays_with_the_experiment_when_photographs_come_in(self, photographs, tmp_path):
        folder = shutil.copytree(photographs / "train", tmp_path / "mine")
        params = params_of("transfer", "frozen", image_size=16)
        fetch = examples.transfer.data_loader.fetch_dataloader
        drawn = {split: fetch(ALL, folder, params)[split].names for split in ("val", "test")}
        assert drawn == params.split
        shutil.copy(folder / "cat" / "photo 0.png", folder / "cat" / "another.png")
        assert {split: fetch([split], folder, learned(params))[split].names for split in drawn} == drawn

    def test_a_split_is_drawn_once_for_all_experiments_and_seeds(self, photographs):
        """Else finetune would be tested on photographs that frozen, from which it goes on, has been trained on."""
        fetch = examples.transfer.data_loader.fetch_dataloader
        names = []
        for experiment, seed in (("frozen", 1), ("finetune", 2)):
            params = params_of("transfer", experiment, image_size=16, seed=seed)
            names.append([fetch([split], photographs / "train", params)[split].names for split in ALL])
        assert names[0] == names[1]

    def test_images_are_normalised_as_the_weights_want_them(self, photographs):
        from torchvision.models import ResNet18_Weights

        preset = ResNet18_Weights.IMAGENET1K_V1.transforms()
        params = params_of("transfer", "frozen", image_size=32)
        batches = examples.transfer.data_loader.fetch_dataloader(["test"], photographs, params)["test"]
        expected = torch.stack([torch.tensor(pictures(2, 32, seed=len("airplane"))[n]) for n in range(2)])
        expected = (expected / 255 - torch.tensor(preset.mean)) / torch.tensor(preset.std)
        torch.testing.assert_close(next(iter(batches))[0][:2], expected.permute(0, 3, 1, 2), rtol=0, atol=1e-4)
        assert params_of("transfer", "frozen").image_size == preset.crop_size[0]

    def test_only_training_is_shuffled_and_varied(self, photographs):
        params = params_of("transfer", "frozen", image_size=32)
        check_only_training_varies(examples.transfer.data_loader, photographs, params)

    def test_the_pretrained_layers_learn_at_their_own_rate(self):
        params = params_of("transfer", "finetune", classes=["cat", "dog"])
        net = examples.transfer.net.Net(params)
        head, backbone = examples.transfer.net.configure_optimizer(net, params).param_groups
        assert (head["lr"], backbone["lr"]) == (1e-3, 1e-4)
        assert head["weight_decay"] == backbone["weight_decay"] == 0.01
        assert {id(p) for p in head["params"]} == {id(p) for p in net.head.parameters()}
        assert len(head["params"]) + len(backbone["params"]) == len(list(net.parameters()))
        assert all(parameter.requires_grad for parameter in net.parameters())

    def test_frozen_layers_are_no_business_of_the_optimizer(self):
        params = params_of("transfer", "frozen", classes=["cat", "dog"])
        net = examples.transfer.net.Net(params)
        (head,) = examples.transfer.net.configure_optimizer(net, params).param_groups
        assert len(head["params"]) == 2
        trained = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
        assert trained == ["head.weight", "head.bias"]
