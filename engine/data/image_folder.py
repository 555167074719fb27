"""Find the images of a data set by its folders: which files there are, of which class, in which split.

Three layouts are known: `{train,val,test}/<class>/*`, a flat `<class>/*`, and `{train,val,test}_signs/{label}_*.jpg`.
A split that has no folder is drawn: each class is shuffled by the seed and cut. What is found and not read is told.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.data.image_file import EXTENSIONS
from engine.errors import UserError
from engine.files import is_text

SPLITS = {"train": "train", "val": "val", "dev": "val", "valid": "val", "validation": "val", "test": "test"}
SIGNS = "_signs"
SHARE = 0.15  # of val, and of test, where they are drawn
LAYOUTS = "expected are train/<class>/ and test/<class>/ with images in them, or <class>/ alone"


class Split(NamedTuple):
    """The examples of one split: `rows` among the `files` of a `source` (train, val, test, all), decoded together.

    `labels` are None where the images have no class.
    """

    source: str
    files: list[str]
    labels: np.ndarray | None
    rows: np.ndarray

    @property
    def names(self) -> list[str]:
        """The files of this split, as posix paths relative to the data folder."""
        return [self.files[row] for row in self.rows]

    def class_counts(self, number_of_classes: int) -> list[int]:
        """How many examples each class has."""
        assert self.labels is not None
        return np.bincount(self.labels[self.rows], minlength=number_of_classes).tolist()


class ImageFolder(NamedTuple):
    """The names of the classes, the splits asked for, and which files went where in the splits that were drawn.

    `not_read` counts what lies there and is no image that can be read, by extension.
    """

    data_dir: Path
    classes: list[str]
    splits: dict[str, Split]
    drawn: dict[str, list[str]]
    not_read: dict[str, int]


def find_images(
    data_dir: Path,
    types: Sequence[str],
    seed: int,
    classes: Sequence[str] | None = None,
    drawn: Mapping[str, Sequence[str]] | None = None,
    folds: int | None = None,
    fold: int = 0,
    whole: bool = False,
) -> ImageFolder:
    """The splits `types` of the images in `data_dir`.

    `classes` are those that the training data had, and are found there if not given; `drawn` is what an earlier call
    returned, so that the same files go to the same splits again. With `folds`, the images to train on are cut into so
    many parts, of which part `fold` (from 0) is val; a val folder is then left alone. A split of any other name is a
    folder of images without labels. With `whole` nothing is drawn: a split without a folder of its own is all images.
    """
    if folds and fold >= folds:
        raise UserError(f'params.json: "fold" must be from 0 to {folds - 1}, not {fold}')
    others = Counter[str]()
    sources = _read_layout(data_dir, others)
    if folds:
        sources.pop("val", None)
    parent = "all" if "all" in sources else "train"
    names = list(classes) if classes else _class_names(data_dir, sources.get(parent))
    everything = dict.fromkeys(types, sources.get(parent, {}))
    given = everything if whole else drawn or _draw(sources, seed, folds, fold)
    held_out = {key: list(some) for key, some in given.items() if key not in sources}
    taken = {file for some in held_out.values() for file in some}
    splits = {}
    for split in types:
        if split not in SPLITS and split not in sources:
            splits[split] = _unlabelled(data_dir, split, others)
            continue
        source = split if split in sources else parent
        if not sources.get(source) or split not in {"train", *sources, *held_out}:
            meant = SPLITS.get(split, split)
            remedy = (
                f"put them into {data_dir / split}/<class>/" if meant == split else f'that split is called "{meant}"'
            )
            raise UserError(f"{data_dir}: has no {split} images; {remedy}")
        chosen = held_out[split] if split in held_out else [file for file in sources[source] if file not in taken]
        splits[split] = _labelled(data_dir, split, source, sources[source], names, chosen)
        _tell_lacking_classes(data_dir, split, splits[split], names, is_learning=not classes)
    if others:
        logging.warning("%s: not read: %s", data_dir, told(others))
    return ImageFolder(data_dir, names, splits, held_out, dict(others))


def cut_by_class(files: Mapping[str, str], shares: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    """Draw `shares` of each class of `files` ({file: class}); at least one example of a class is always left over."""
    drawn: dict[str, list[str]] = {split: [] for split in shares}
    for shuffled in _shuffled_by_class(files, seed):
        number = len(shuffled)
        for split, share in shares.items():
            count = min(max(1, round(share * number)), len(shuffled) - 1)
            drawn[split] += shuffled[:count]
            shuffled = shuffled[count:]
    return {split: sorted(chosen) for split, chosen in drawn.items()}


def fold_by_class(files: Mapping[str, str], folds: int, fold: int, seed: int) -> list[str]:
    """Part `fold` (from 0) of `folds` equal ones of each class of `files`; no file is in two parts, each is in one."""
    return sorted(file for shuffled in _shuffled_by_class(files, seed) for file in shuffled[fold::folds])


def _shuffled_by_class(files: Mapping[str, str], seed: int) -> Iterator[list[str]]:
    members: dict[str, list[str]] = {}
    for file, name in sorted(files.items()):
        members.setdefault(name, []).append(file)
    generator = np.random.default_rng(seed)
    for _, some in sorted(members.items()):
        yield [some[index] for index in generator.permutation(len(some))]


def _draw(sources: Mapping[str, Mapping[str, str]], seed: int, folds: int | None, fold: int) -> dict[str, list[str]]:
    """The files of the splits that have no folder: val, and out of a flat folder test."""
    pool = dict(sources.get("all", sources.get("train", {})))
    shares = {split: SHARE for split in ("val", "test") if split == "val" or "all" in sources}
    if "val" in sources:
        return {}
    if not folds:
        return cut_by_class(pool, shares, seed)
    drawn = cut_by_class(pool, {"test": SHARE}, seed) if "all" in sources else {}
    held_out = {file for chosen in drawn.values() for file in chosen}
    rest = {file: name for file, name in pool.items() if file not in held_out}
    return drawn | {"val": fold_by_class(rest, folds, fold, seed)}


def _labelled(
    data_dir: Path, split: str, source: str, files: Mapping[str, str], names: Sequence[str], chosen: Sequence[str]
) -> Split:
    """The images `chosen` for a split among those of its source, with their classes as numbers."""
    numbers = {name: number for number, name in enumerate(names)}
    for file, name in files.items():
        if name not in numbers:
            raise UserError(f'{data_dir / file}: class "{name}" of {split} is not a class of the training images')
    if not chosen:
        raise UserError(f"{data_dir}: has too few images to set some aside for {split}; add more to each class")
    labels = np.array([numbers[name] for name in files.values()], dtype=np.int64)
    return Split(source, list(files), labels, _rows(data_dir, split, list(files), chosen))


def _unlabelled(data_dir: Path, split: str, others: Counter[str]) -> Split:
    """The images of a folder that have no class."""
    files = sorted(_images(data_dir, split, others)) if (data_dir / split).is_dir() else []
    if not files:
        raise UserError(f"{data_dir / split}: no folder with images; put those there that are to be predicted")
    return Split(split, files, None, np.arange(len(files)))


def _rows(data_dir: Path, split: str, files: Sequence[str], chosen: Sequence[str]) -> np.ndarray:
    positions = {file: row for row, file in enumerate(files)}
    gone = [file for file in chosen if file not in positions]
    if gone:
        raise UserError(
            f"{data_dir / gone[0]}: was in the {split} split of this experiment and is not there any more"
            f"{and_others(gone)}; put it back, or start over with --fresh"
        )
    return np.array([positions[file] for file in chosen], dtype=np.int64)


def _read_layout(data_dir: Path, others: Counter[str]) -> dict[str, dict[str, str]]:
    """The images of each source as `{file: class}`, or those of a flat folder under "all"; what else lies among them
    is counted in `others`."""
    if not data_dir.is_dir():
        raise UserError(f'{data_dir}: no such data folder; set "data_dir" or --data_dir to the one with your images')
    folders = [entry.name for entry in _entries(data_dir) if entry.is_dir()]
    if signs := [name for name in folders if name.endswith(SIGNS) and name.lower().removesuffix(SIGNS) in SPLITS]:
        named = {name: _signs(data_dir, name, others) for name in signs}
    elif nested := [name for name in folders if name.lower() in SPLITS and _has_folders(data_dir / name)]:
        named = {name: _classes(data_dir, name, others) for name in nested}
    elif classes := [name for name in folders if name.lower() not in SPLITS]:
        _refuse_split_among_classes(data_dir, folders, classes[0])
        return {"all": _classes(data_dir, "", others)}
    else:
        what = "holds images without class folders" if any(_images(data_dir, "", others)) else "holds no images"
        raise UserError(f"{data_dir}: {what}; {LAYOUTS}")
    sources: dict[str, dict[str, str]] = {}
    for name, files in named.items():
        split = SPLITS[name.lower().removesuffix(SIGNS)]
        if split in sources:
            raise UserError(f"{data_dir / name}: a second folder for the {split} split; remove or rename one of them")
        sources[split] = files
    return sources


def _refuse_split_among_classes(data_dir: Path, folders: Sequence[str], name: str) -> None:
    """Refuse a folder such as `test` beside that of the class `name`, since it would silently be a class as well."""
    for split in folders:
        if split.lower() in SPLITS:
            raise UserError(
                f'{data_dir / split}: is named like a split and stands beside the class folder "{name}"; either give '
                f"every split its folder with class folders in it (train/{name}/, test/{name}/), "
                f"or move this one out of {data_dir}"
            )


def _classes(data_dir: Path, folder: str, others: Counter[str]) -> dict[str, str]:
    """The images under `folder`, each subfolder a class."""
    found = {}
    for entry in _entries(data_dir / folder):
        path = f"{folder}/{entry.name}" if folder else entry.name
        if not entry.is_dir():
            others.update([f"{extension(path)} beside the class folders"] if extension(path) in EXTENSIONS else [])
            continue
        if not is_text(entry.name):
            raise UserError(f"{data_dir / path}: the name of this class is not UTF-8 text; rename its folder")
        there = Counter[str]()
        files = sorted(_images(data_dir, path, there))
        if not files and SPLITS.get(folder.lower(), "train") == "train":
            only = f", only {told(there)}" if there else ""
            raise UserError(f"{data_dir / path}: class folder without images{only}; fill or remove it")
        found.update(dict.fromkeys(files, entry.name))
        others.update(there)
    return dict(sorted(found.items()))


def _signs(data_dir: Path, folder: str, others: Counter[str]) -> dict[str, str]:
    """The images in `folder`, each with its label before the first underscore of its name."""
    found = {}
    for file in sorted(_images(data_dir, folder, others)):
        label, underscore, _ = file.rpartition("/")[2].partition("_")
        if not (label and underscore):
            raise UserError(f"{data_dir / file}: has no label; its name must begin with one, as in 3_{Path(file).name}")
        found[file] = label
    if not found:
        raise UserError(f"{data_dir / folder}: holds no images; put them there as <label>_<name>.jpg, or remove it")
    return found


def _images(data_dir: Path, folder: str, others: Counter[str]) -> Iterator[str]:
    """Every image under `folder`, at any depth, relative to `data_dir`; other files are counted in `others`."""
    for entry in _entries(data_dir / folder):
        path = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_dir():
            yield from _images(data_dir, path, others)
        elif extension(path) in EXTENSIONS:
            yield path
        else:
            others[extension(path) or "without extension"] += 1


def extension(path: str) -> str:
    """`.jpg` for `cat/Photo.JPG`."""
    return os.path.splitext(path)[1].lower()


def told(counts: Counter[str]) -> str:
    """Files by extension, the commonest first.

    >>> told(Counter({".txt": 1, ".heic": 12}))
    '.heic 12, .txt 1'
    """
    return ", ".join(f"{kind} {counts[kind]}" for kind in sorted(counts, key=lambda kind: (-counts[kind], kind)))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, in order, without what is hidden (.DS_Store, ._photo.jpg, .cache)."""
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith((".", "__MACOSX"))]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from None
    return sorted(shown, key=lambda entry: entry.name)


def _has_folders(folder: Path) -> bool:
    return any(entry.is_dir() for entry in _entries(folder))


def _class_names(data_dir: Path, files: Mapping[str, str] | None) -> list[str]:
    """The classes of the training data by name, numbers by size."""
    if files is None:
        raise UserError(f"{data_dir}: has no train images; put them into {data_dir / 'train'}/<class>/")
    names = sorted(set(files.values()), key=lambda name: (not _is_number(name), _is_number(name) and int(name), name))
    if len(names) == 1:
        raise UserError(f'{data_dir}: all training images are of one class, "{names[0]}"; two or more are needed')
    return names


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _tell_lacking_classes(data_dir: Path, split: str, found: Split, names: Sequence[str], is_learning: bool) -> None:
    """Warn of classes that a split has no image of; where they are to be learned from it, it is an error."""
    lacking = [name for name, count in zip(names, found.class_counts(len(names)), strict=True) if count == 0]
    if not lacking:
        return
    what = f'{data_dir}: {split} has no images of class "{lacking[0]}"{and_others(lacking)}'
    if split == "train" and is_learning:
        raise UserError(f"{what}; add some")
    logging.warning("%s: its scores are over the classes that occur in it", what)


def and_others(items: Sequence[str]) -> str:
    """What an error message that names the first of `items` says about the rest.

    >>> and_others(["a.png", "b.png", "c.png"])
    ' (and 2 others)'
    """
    return f" (and {len(items) - 1} other{'s' if len(items) > 2 else ''})" if len(items) > 1 else ""
