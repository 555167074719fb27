"""Images and masks stay together, pixel by pixel, from the files to the scores."""
# ruff: noqa: E402  # what may not be there can only be imported after a look

import csv
import functools
import json
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

EXAMPLE = Path(__file__).parent.parent / "examples" / "segmentation"
if not (EXAMPLE / "net.py").is_file():
    pytest.skip("the example is not there any more", allow_module_level=True)

from engine.data import write_shapes
from engine.data.image_file import masks as mask_content
from engine.data.image_readers import read_files
from engine.errors import UserError
from engine.hyperparameters import load_params
from examples.segmentation.data_loader import fetch_dataloader
from examples.segmentation.net import Net, loss_fn, metrics, predict_new
from tests.support import faults
from tests.support.folders import checkpoint, same_results

ALL = ("train", "val", "test")
SHIPPED = json.loads((EXAMPLE / "experiments" / "base" / "params.json").read_text())


def params_of(**values):
    return load_params("params.json", {**SHIPPED, "image_size": 16, "num_channels": 2, "batch_size": 4, **values})


def write_pair(folder, name, mask, parent="", mode="L"):
    """A mask, and an image that is 60 times as bright as the number in it."""
    for part in ("images", "masks"):
        (folder / parent / part).mkdir(parents=True, exist_ok=True)
    Image.fromarray((mask * 60).astype(np.uint8)).save(folder / parent / "images" / f"{name}.png")
    Image.fromarray(mask.astype(np.uint8)).convert(mode).save(folder / parent / "masks" / f"{name}.png")


@pytest.fixture
def folder(tmp_path):
    """Twenty masks of blocks of the numbers 0, 1 and 3."""
    generator = np.random.default_rng(0)
    for number in range(20):
        blocks = np.array([0, 1, 3])[generator.integers(0, 3, (4, 4))]
        mask = np.kron(blocks, np.ones((4, 4), int))
        write_pair(tmp_path / "pairs", f"{number:02}", mask, mode="P" if number % 2 else "L")
    return tmp_path / "pairs"


def decode_mask(path, size):
    """What a mask becomes that can be read: (size, size)."""
    read = read_files([str(path)], mask_content(size))
    assert read.reasons == {}
    return read.values[0]


class TestMasks:
    @pytest.mark.parametrize("mode", ["L", "P"])
    def test_numbers_stay_what_they_are_and_none_is_made_up(self, tmp_path, mode):
        mask = np.kron([[0, 7], [255, 2]], np.ones((20, 20))).astype(np.uint8)
        Image.fromarray(mask).convert(mode).save(tmp_path / "a.png")
        assert np.array_equal(decode_mask(tmp_path / "a.png", 40), mask)
        assert np.array_equal(decode_mask(tmp_path / "a.png", 10), mask[::4, ::4])
        assert set(np.unique(decode_mask(tmp_path / "a.png", 17))) == {0, 2, 7, 255}

    def test_a_mask_of_single_bits_has_the_classes_0_and_1(self, tmp_path):
        mask = np.kron([[0, 1], [1, 0]], np.ones((20, 20))).astype(np.uint8)
        Image.fromarray(mask.astype(bool)).save(tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            assert image.mode == "1"
        assert np.array_equal(decode_mask(tmp_path / "a.png", 40), mask)

    def test_the_middle_is_taken_as_it_is_of_images(self, tmp_path):
        mask = np.repeat([[1, 2, 2, 3]], 8, axis=0).repeat(4, axis=1)
        Image.fromarray(mask.astype(np.uint8)).save(tmp_path / "a.png")
        assert set(np.unique(decode_mask(tmp_path / "a.png", 8))) == {2}

    def test_a_picture_is_none(self, tmp_path):
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
        assert "one number of 8 bits" in read_files([str(tmp_path / "a.png")], mask_content(8)).reasons[0]

    def test_the_shapes_of_the_first_run_have_masks_of_three_classes(self, tmp_path, monkeypatch):
        monkeypatch.setattr("engine.data.sample_data.SHAPES", 12)
        write_shapes(tmp_path / "shapes")
        assert [len(list((tmp_path / "shapes" / part).iterdir())) for part in ("images", "masks")] == [12, 12]
        masks = [np.asarray(Image.open(path)) for path in (tmp_path / "shapes" / "masks").iterdir()]
        assert set(np.unique(masks)) == {0, 1, 2, 255}


class TestBatches:
    def test_images_and_masks_are_moved_alike(self, folder):
        params = params_of(flip=True, shift=0.3)
        batches = fetch_dataloader(["train", "val"], folder, params)
        assert params.mask_values == [0, 1, 3]
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (params.mean, params.std))
        plain = batches["train"].tensors[0][:, 0]
        moved = 0
        for images, masks in batches["train"]:
            brightness = (images * std + mean).round()
            numbers = torch.tensor(params.mask_values)[masks]
            assert torch.equal(brightness, (60 * numbers[:, None]).expand(-1, 3, -1, -1).float())
            moved += sum(not (image == plain).flatten(1).all(dim=1).any() for image in brightness[:, 0])
        assert moved > len(plain) // 2
        twice = [torch.cat([images for images, _ in batches["val"]]) for _ in range(2)]
        assert torch.equal(*twice)

    def test_a_split_is_drawn_once_and_is_back_in_evaluation(self, folder):
        params = params_of()
        names = {split: batches.names for split, batches in fetch_dataloader(ALL, folder, params).items()}
        assert {split: len(some) for split, some in names.items()} == {"train": 14, "val": 3, "test": 3}
        assert len(set().union(*names.values())) == 20
        assert fetch_dataloader(["test"], folder, params)["test"].names == names["test"]

    def test_of_other_data_all_are_scored(self, folder, tmp_path):
        params = params_of()
        fetch_dataloader(["train", "val"], folder, params)
        write_pair(tmp_path / "other", "new", np.eye(16))
        params.provide(is_other_data=True)
        assert fetch_dataloader(["test"], tmp_path / "other", params)["test"].names == ["images/new.png"]

    def test_splits_may_have_folders(self, tmp_path):
        for split in ALL:
            write_pair(tmp_path, "a", np.eye(16), parent=split)
        assert fetch_dataloader(ALL, tmp_path, params_of())["test"].names == ["test/images/a.png"]

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda folder: (folder / "masks" / "03.png").unlink(), r"images/03.png: has no partner of the same name"),
            (lambda folder: write_wide(folder / "masks" / "03.jpg"), "masks/03.png: masks/03.jpg is called so, too"),
            (lambda folder: write_wide(folder / "masks" / "03.png"), "masks/03.png: has another shape than images/03"),
            (lambda folder: [path.unlink() for path in folder.rglob("*.png")], "images: holds no images"),
        ],
        ids=["no partner", "two of a name", "another shape", "nothing"],
    )
    def test_pairs_that_are_none_are_one_line(self, folder, spoil, message):
        spoil(folder)
        with pytest.raises(UserError, match=message):
            fetch_dataloader(ALL, folder, params_of())

    def test_masks_of_one_number_and_numbers_that_train_lacks_are_one_line(self, tmp_path):
        write_pair(tmp_path / "one", "a", np.full((16, 16), 255), parent="train")
        with pytest.raises(UserError, match=r"hold only \[\]"):
            fetch_dataloader(["train"], tmp_path / "one", params_of())
        write_pair(tmp_path / "other", "a", np.eye(16), parent="train")
        write_pair(tmp_path / "other", "a", 5 * np.eye(16), parent="val")
        with pytest.raises(UserError, match="the masks of val hold 5, which those of train do not"):
            fetch_dataloader(["train", "val"], tmp_path / "other", params_of())


def write_wide(path):
    Image.new("L", (32, 16)).save(path)


def net_params(classes=3):
    params = params_of()
    params.mask_values = list(range(classes))
    return params


OUTPUTS = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
MASKS = torch.randint(0, 3, (4, 8, 8), generator=torch.Generator().manual_seed(1))
MASKS[0, :3], MASKS[1, :, :7] = 255, 255


class TestNet:
    @pytest.mark.parametrize("side", [16, 36, 64])
    def test_each_pixel_has_a_score_for_each_class(self, side):
        assert Net(net_params())(torch.randn(2, 3, side, side)).shape == (2, 3, side, side)

    def test_a_size_that_cannot_be_halved_twice_is_one_line(self):
        params = params_of(image_size=18)
        params.mask_values = [0, 1]
        with pytest.raises(UserError, match='"image_size" must be a multiple of 4'):
            Net(params)

    def test_the_loss_is_pytorch_s_for_each_image_alone(self):
        entropies, dices = [], []
        for outputs, mask in zip(OUTPUTS, MASKS, strict=True):
            entropies.append(nn.functional.cross_entropy(outputs[None], mask[None], ignore_index=255))
            kept = mask != 255
            guess, truth = outputs.softmax(dim=0)[:, kept], torch.stack([mask[kept] == one for one in range(3)])
            dices.append(((2 * (guess * truth).sum(dim=1) + 1) / (guess.sum(dim=1) + truth.sum(dim=1) + 1)).mean())
        losses = loss_fn(OUTPUTS, MASKS)
        torch.testing.assert_close(losses["entropy"], torch.stack(entropies).mean())
        torch.testing.assert_close(losses["dice_loss"], 1 - torch.stack(dices).mean())
        torch.testing.assert_close(losses["loss"], losses["entropy"] + losses["dice_loss"])

    def test_scores_are_counted_by_hand_over_the_whole_split(self):
        found = metrics(net_params())
        for metric in found.values():
            for place in range(4):
                metric.update(OUTPUTS[place : place + 1], MASKS[place : place + 1])
        kept = MASKS != 255
        guess, truth = OUTPUTS.argmax(dim=1)[kept], MASKS[kept]
        both = np.array([((guess == one) & (truth == one)).sum() for one in range(3)], dtype=float)
        sizes = np.array([(guess == one).sum() + (truth == one).sum() for one in range(3)], dtype=float)
        assert float(found["mean_iou"].compute()) == pytest.approx(np.mean(both / (sizes - both)))
        assert float(found["dice"].compute()) == pytest.approx(np.mean(2 * both / sizes))


@pytest.fixture
def train(script, folder, tmp_path):
    """Trains a small network on pairs of one's own: `train("run", num_epochs=2)` gives the folder."""

    def run(name, before=faults.nothing, status=0, **changes):
        settings = {"data_dir": folder, "num_epochs": 2, "image_size": 16, "num_channels": 4, "batch_size": 4}
        words = [word for key, value in (settings | changes).items() for word in ("--set", f"{key}={value}")]
        source = EXAMPLE / "experiments" / "base"
        done = script("train", "--model_dir", tmp_path / name, "--from", source, *words, before=before)
        assert done.status == status, done.stderr
        return tmp_path / name

    return run


def test_it_trains_is_evaluated_and_leaves_a_picture(train, script):
    run = train("run")
    done = script("evaluate", "--model_dir", run)
    assert done.status == 0, done.stderr
    assert set(json.loads((run / "metrics_test_best.json").read_text())) >= {"mean_iou", "dice", "loss"}
    assert (run / "predictions_test.csv").read_text().startswith("file,share_of_0,share_of_1,share_of_3\n")
    with Image.open(run / "segmented_test.png") as picture:
        assert min(picture.size) > 300


@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by signals")
@pytest.mark.parametrize("batch", [2, 7])
def test_a_run_that_is_killed_goes_on_to_the_same_bits(train, script, batch):
    changes = {"save_steps": 1, "flip": "true", "shift": 0.1, "ema_decay": 0.9}
    whole = train("whole", **changes)
    per_network = 5 * batch  # so many of its parts are nn.Sequential
    dying = functools.partial(faults.act_at_batch, per_network, faults.die)
    killed = train("killed", before=dying, status=-signal.SIGKILL, **changes)
    assert 0 < checkpoint(killed)["step"] < checkpoint(whole)["step"]
    assert script("train", "--model_dir", killed).status == 0
    assert same_results(whole, killed)


def save_turned(path, pixels):
    """A photograph that was taken with the camera on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(path, quality=95, exif=exif)


def test_masks_of_new_photographs_have_their_size_and_the_numbers_of_train(train, script, tmp_path):
    run = train("run")
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for name, shape in {"a.jpg": (40, 100, 3), "more/a.jpg": (32, 32, 3)}.items():
        Image.fromarray(draw.integers(0, 256, shape, np.uint8)).save(photos / name)
    save_turned(photos / "turned.jpg", draw.integers(0, 256, (30, 60, 3), np.uint8))
    (photos / "broken.jpg").write_bytes(b"no image")
    out = tmp_path / "masks"
    done = script("predict", "--model_dir", run, photos, "--out", f"{out}/")
    assert done.status == 2
    assert done.stderr.splitlines()[-1] == "error: 1 of 4 inputs could not be read; the others are predicted"
    assert done.stderr.startswith(f"{photos}/broken.jpg: ")
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    assert [Path(row["mask"]).name for row in rows] == ["a.png", "a_2.png", "turned.png"]
    sizes = []
    for row in rows:
        with Image.open(row["mask"]) as mask:
            numbers = np.asarray(mask)
            sizes.append(mask.size)
            assert mask.mode == "P"
        for value in (0, 1, 3):
            assert (numbers == value).mean() == pytest.approx(float(row[f"share_of_{value}"]), abs=0.1)
        assert set(np.unique(numbers)) <= {0, 1, 3}
    assert sizes == [(100, 40), (32, 32), (30, 60)]


def test_a_photograph_like_those_of_train_gets_the_mask_of_evaluation(train, script, folder, tmp_path):
    run = train("run", num_epochs=3)
    assert script("evaluate", "--model_dir", run, "--split", "train").status == 0
    wanted = {row.pop("file"): row for row in csv.DictReader((run / "predictions_train.csv").open())}
    done = script("predict", "--model_dir", run, folder / "images", "--out", tmp_path / "table.csv")
    assert done.status == 0, done.stderr
    given = {row.pop("file"): row for row in csv.DictReader((tmp_path / "table.csv").open())}
    assert "mask" not in next(iter(given.values()))
    for name, row in wanted.items():
        assert {key: float(value) for key, value in given[str(folder / name)].items()} == pytest.approx(
            {key: float(value) for key, value in row.items()}, abs=0.01
        )


def test_pictures_are_asked_of_a_task_that_gives_them(trained, script, tmp_path):
    done = script("predict", "--model_dir", trained(tmp_path / "run"), "x", "--out", "masks/")
    assert done.status == 2
    assert (
        done.stderr
        == "error: --out masks/: tests.projects.points gives no pictures, so it must end in .csv or .jsonl\n"
    )


def test_the_numbers_in_a_new_mask_are_those_of_train(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    classes = torch.arange(16).reshape(1, 4, 4) % 3
    outputs = nn.functional.one_hot(classes, 3).permute(0, 3, 1, 2).float()
    params = params_of()
    params.mask_values = [0, 1, 3]
    told = predict_new(lambda images: outputs, torch.zeros(1, 3, 4, 4), [str(tmp_path / "a.png")], params)
    wanted = np.kron(np.array([0, 1, 3])[classes[0]], np.ones((2, 2)))
    assert np.array_equal(np.asarray(told["mask"][0]), wanted)
