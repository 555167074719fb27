"""Which images there are, of which class and in which split, is told by the folders alone."""

from collections import Counter
from pathlib import Path

import pytest

from engine.data.image_folder import find_images
from engine.errors import UserError

ALL = ("train", "val", "test")


def write(folder, *names):
    """Empty files: finding images opens none."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write_classes(folder, counts):
    for name, count in counts.items():
        write(folder, *(f"{name}/{number}.png" for number in range(count)))


@pytest.fixture
def split_folder(tmp_path):
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        write_classes(tmp_path / split, {"cat": count, "dog": count + 1})
    return tmp_path


class TestSplitFolders:
    def test_each_split_has_the_images_of_its_folder(self, split_folder):
        found = find_images(split_folder, ALL, seed=1)
        assert found.classes == ["cat", "dog"]
        assert {split: found.splits[split].class_counts(2) for split in ALL} == {
            "train": [4, 5],
            "val": [2, 3],
            "test": [3, 4],
        }
        assert found.splits["val"].names == [f"val/cat/{i}.png" for i in range(2)] + [
            f"val/dog/{i}.png" for i in range(3)
        ]
        assert found.splits["val"].labels.tolist() == [0, 0, 1, 1, 1]
        assert found.splits["val"].labels.dtype == "int64"
        assert found.drawn == {}

    @pytest.mark.parametrize("name", ["dev", "valid", "validation", "Val"])
    def test_val_has_other_names(self, split_folder, name):
        (split_folder / "val").rename(split_folder / name)
        assert len(find_images(split_folder, ["val"], seed=1).splits["val"].rows) == 5
        with pytest.raises(UserError, match='has no dev images; that split is called "val"'):
            find_images(split_folder, ["dev"], seed=1)

    def test_a_missing_val_is_drawn_from_train(self, tmp_path):
        write_classes(tmp_path / "train", {"cat": 100, "dog": 20})
        write_classes(tmp_path / "test", {"cat": 1, "dog": 1})
        found = find_images(tmp_path, ALL, seed=1)
        train, val = found.splits["train"], found.splits["val"]
        assert (train.class_counts(2), val.class_counts(2)) == ([85, 17], [15, 3])
        assert not set(train.names) & set(val.names)
        assert found.drawn == {"val": val.names}
        assert train.source == val.source == "train"  # decoded as one

    def test_test_is_not_drawn_where_train_has_its_folder(self, tmp_path):
        write_classes(tmp_path / "train", {"cat": 10, "dog": 10})
        with pytest.raises(UserError, match=r"has no test images; put them into .*test/<class>/"):
            find_images(tmp_path, ["test"], seed=1)

    def test_only_what_is_an_image_counts_and_the_rest_is_told(self, split_folder, caplog):
        extra = ("a.JPG", "b.jpeg", "c.WebP", "d.bmp", "e.tif", "f.TIFF", "g.pgm", "h.gif", "i.jfif", "deeper/a b.PNG")
        ignored = (".DS_Store", "._a.jpg", "notes.txt", "photo.heic", "README", "two.HEIC", ".hidden/a.png")
        write(split_folder / "test" / "cat", *extra, *ignored)
        write(split_folder, ".cache/train/cat/a.png", "__MACOSX/train/a.png", "train/stray.png")
        found = find_images(split_folder, ["test"], seed=1)
        assert found.splits["test"].class_counts(2) == [3 + len(extra), 4]
        assert "test/cat/deeper/a b.PNG" in found.splits["test"].names
        assert found.not_read == {".heic": 2, ".png beside the class folders": 1, ".txt": 1, "without extension": 1}
        assert caplog.messages == [
            f"{split_folder}: not read: .heic 2, .png beside the class folders 1, .txt 1, without extension 1"
        ]

    def test_a_class_that_val_or_test_lacks_is_a_warning(self, tmp_path, caplog):
        """Rare classes are real; the same holds for a split that is drawn."""
        write_classes(tmp_path / "made" / "train", {"cat": 5, "dog": 5, "eel": 5})
        write_classes(tmp_path / "made" / "val", {"cat": 2, "dog": 0})
        (tmp_path / "made" / "val" / "dog").mkdir()
        write_classes(tmp_path / "drawn", {"cat": 20, "dog": 1, "eel": 1})
        for folder in (tmp_path / "made", tmp_path / "drawn"):
            caplog.clear()
            found = find_images(folder, ["train", "val"], seed=1)
            assert found.splits["val"].class_counts(3)[1:] == [0, 0]
            assert min(found.splits["train"].class_counts(3)) > 0
            assert caplog.messages == [
                f'{folder}: val has no images of class "dog" (and 1 other): '
                "its scores are over the classes that occur in it"
            ]

    def test_a_class_that_train_lacks_is_an_error(self, tmp_path):
        write_classes(tmp_path, {"cat": 20, "dog": 20, "eel": 1})
        with pytest.raises(UserError, match='train has no images of class "eel"; add some'):
            for fold in range(2):  # in one of them, val has the only one
                find_images(tmp_path, ["train", "val"], seed=1, folds=2, fold=fold)

    def test_classes_that_are_numbers_are_in_their_order(self, tmp_path):
        write_classes(tmp_path, dict.fromkeys(("10", "9", "1", "b", "a"), 8))
        assert find_images(tmp_path, ["train"], seed=1).classes == ["1", "9", "10", "a", "b"]

    def test_the_classes_of_the_training_data_stay_when_only_test_is_there(self, tmp_path):
        write_classes(tmp_path / "test", {"cat": 1, "dog": 1})
        found = find_images(tmp_path, ["test"], seed=1, classes=["dog", "cat"])
        assert found.splits["test"].names == ["test/cat/0.png", "test/dog/0.png"]
        assert found.splits["test"].labels.tolist() == [1, 0]


COUNTS = {"cat": 100, "dog": 40, "newt": 3}


class TestFlatFolder:
    def test_every_class_is_split_70_15_15(self, tmp_path):
        write_classes(tmp_path, COUNTS)
        found = find_images(tmp_path, ALL, seed=1)
        counts = {split: found.splits[split].class_counts(3) for split in ALL}
        assert counts == {"train": [70, 28, 1], "val": [15, 6, 1], "test": [15, 6, 1]}
        files = Counter(name for split in ALL for name in found.splits[split].names)
        assert len(files) == 143
        assert set(files.values()) == {1}

    def test_the_seed_decides(self, tmp_path):
        write_classes(tmp_path, COUNTS)
        drawn = [find_images(tmp_path, ["train"], seed=seed).drawn for seed in (1, 1, 2)]
        assert drawn[0] == drawn[1] != drawn[2]

    def test_what_was_drawn_stays_where_it_was(self, tmp_path):
        write_classes(tmp_path, COUNTS)
        before = find_images(tmp_path, ALL, seed=1)
        write(tmp_path, "cat/00_new.png")
        after = find_images(tmp_path, ALL, seed=2, drawn=before.drawn)
        assert after.splits["val"].names == before.splits["val"].names
        assert after.splits["test"].names == before.splits["test"].names
        assert set(after.splits["train"].names) - set(before.splits["train"].names) == {"cat/00_new.png"}

    def test_a_drawn_file_that_is_gone_is_named(self, tmp_path):
        write_classes(tmp_path, COUNTS)
        drawn = find_images(tmp_path, ALL, seed=1).drawn
        (tmp_path / drawn["test"][0]).unlink()
        with pytest.raises(UserError, match=rf"{drawn['test'][0]}: was in the test split"):
            find_images(tmp_path, ["test"], seed=1, drawn=drawn)

    def test_tiny_classes_go_to_train_first(self, tmp_path):
        write_classes(tmp_path, {"one": 1, "two": 2, "many": 10})
        found = find_images(tmp_path, ALL, seed=1)
        order = [found.classes.index(name) for name in ("one", "two")]
        counts = {split: [found.splits[split].class_counts(3)[i] for i in order] for split in ALL}
        assert counts == {"train": [1, 1], "val": [0, 1], "test": [0, 0]}

    @pytest.mark.parametrize("name", ["train", "val", "validation", "dev", "valid", "test", "Test"])
    def test_a_folder_named_like_a_split_is_no_class(self, tmp_path, name):
        write_classes(tmp_path, {"cat": 20, "dog": 20})
        write(tmp_path, f"{name}/a.jpg", f"{name}/b.jpg")
        with pytest.raises(UserError) as error:
            find_images(tmp_path, ["train", "val"], seed=1)
        assert str(error.value) == (
            f'{tmp_path / name}: is named like a split and stands beside the class folder "cat"; either give '
            "every split its folder with class folders in it (train/cat/, test/cat/), "
            f"or move this one out of {tmp_path}"
        )

    def test_a_class_may_be_called_train_where_splits_have_folders(self, tmp_path):
        write_classes(tmp_path / "train", {"train": 5, "tram": 5})
        assert find_images(tmp_path, ["train"], seed=1).classes == ["train", "tram"]


class TestSigns:
    def test_the_label_is_the_name_up_to_the_first_underscore(self, tmp_path):
        write(tmp_path / "train_signs", "0_IMG_1.jpg", "10_a (1).jpg", "2_b.jpg")
        write(tmp_path / "dev_signs", "2_b.jpg", "0_c.jpg", "10_c.jpg")
        found = find_images(tmp_path, ["train", "val"], seed=1)
        assert found.classes == ["0", "2", "10"]
        labels = dict(zip(found.splits["train"].names, found.splits["train"].labels, strict=True))
        assert labels == {"train_signs/0_IMG_1.jpg": 0, "train_signs/10_a (1).jpg": 2, "train_signs/2_b.jpg": 1}

    def test_an_image_without_label_is_named(self, tmp_path):
        write(tmp_path / "train_signs", "0_a.jpg", "photo.jpg")
        with pytest.raises(UserError, match=r"train_signs/photo.jpg: has no label"):
            find_images(tmp_path, ["train"], seed=1)


def folder_of(tmp_path: Path, *names: str) -> Path:
    write(tmp_path, *names)
    return tmp_path


class TestErrors:
    """Each is one line that says what is wrong, and where."""

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            ((), "holds no images; expected are"),
            (("a.png", "b.png"), "holds images without class folders; expected are"),
            (("train/a.png", "test/b.png"), "holds images without class folders"),
            (("cat/a.png",), 'all training images are of one class, "cat"'),
            (("cat/a.png", "dog/notes.txt"), "dog: class folder without images"),
            (("cat/a.png", "dog/a.heic", "dog/b.HEIC", "dog/notes.txt"), r"without images, only .heic 2, .txt 1; fill"),
            (("train/cat/a.png", "train/dog/a.png", "val/cat/notes.txt"), "has no val images; put them into"),
            (
                ("train/cat/a.png", "train/dog/a.png", "val/cat/a.png", "val/dog/a.png", "val/cow/a.png"),
                'cow/a.png: class "cow" of val is not a class of the training images',
            ),
            (("train/cat/a.png", "val/cat/a.png", "dev/cat/a.png"), "a second folder for the val split"),
            (("val/cat/a.png", "val/dog/a.png"), "has no train images"),
            (("train_signs/notes.txt",), "train_signs: holds no images"),
            (("cat/a.png", "dog/a.png"), "too few images to set some aside for val"),
        ],
    )
    def test_a_folder_that_cannot_be_used(self, tmp_path, names, message):
        with pytest.raises(UserError, match=message) as error:
            find_images(folder_of(tmp_path, *names), ["train", "val"], seed=1)
        assert str(tmp_path) in str(error.value)
        assert "\n" not in str(error.value)

    def test_a_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(UserError, match="nowhere: no such data folder"):
            find_images(tmp_path / "nowhere", ["train"], seed=1)


class TestFolds:
    @pytest.fixture
    def images(self, tmp_path):
        for split, count in {"train": 10, "val": 2, "test": 2}.items():
            for label in ("cat", "dog"):
                (tmp_path / split / label).mkdir(parents=True)
                for number in range(count):
                    (tmp_path / split / label / f"{number}.png").touch()
        return tmp_path

    def test_every_training_image_is_in_val_once(self, images):
        folders = [find_images(images, ["train", "val"], 1, folds=5, fold=fold).splits for fold in range(5)]
        held_out = [name for splits in folders for name in splits["val"].names]
        assert sorted(held_out) == sorted(find_images(images, ["train"], 1).splits["train"].names)
        for splits in folders:
            assert not set(splits["train"].names) & set(splits["val"].names)
            assert splits["val"].class_counts(2) == [2, 2]

    def test_a_flat_folder_keeps_one_test_split_for_all_folds(self, images):
        flat = images / "train"
        folders = [find_images(flat, ["train", "val", "test"], 1, folds=3, fold=fold).splits for fold in range(3)]
        assert len({tuple(splits["test"].names) for splits in folders}) == 1
        held_out = [name for splits in folders for name in splits["val"].names]
        assert len(held_out) == len(set(held_out)) == 20 - len(folders[0]["test"].names)


def test_a_folder_of_another_name_holds_images_without_labels(tmp_path):
    for name in ("train/cat/a.png", "train/dog/b.png", "photos/2.png", "photos/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    split = find_images(tmp_path, ["photos"], 1, classes=["cat", "dog"]).splits["photos"]
    assert split.labels is None
    assert split.names == ["photos/1.jpg", "photos/2.png"]
    with pytest.raises(UserError, match="pictures: no folder with images"):
        find_images(tmp_path, ["pictures"], 1, classes=["cat", "dog"])


def test_of_other_data_the_whole_is_scored_unless_they_have_folders_for_splits(tmp_path, split_folder):
    classes = ["cat", "dog"]
    (tmp_path / "other").mkdir()
    write_classes(tmp_path / "other", {"cat": 20, "dog": 30})
    recorded = {"test": ["cat/1.png"], "val": ["dog/1.png"]}
    found = find_images(tmp_path / "other", ["test"], 1, classes, recorded, whole=True)
    assert found.splits["test"].class_counts(2) == [20, 30]
    assert found.splits["test"].names[0] == "cat/0.png"
    found = find_images(split_folder, ["test"], 1, classes, recorded, whole=True)
    assert found.splits["test"].class_counts(2) == [3, 4]
