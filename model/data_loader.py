"""Batches of images and labels out of a folder of images."""

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.data import (
    Augmentation,
    ImageFolder,
    TensorBatches,
    find_images,
    read_headers,
    read_image,
    read_images,
    write_digits,
)
from engine.errors import UserError
from engine.hyperparameters import Key
from utils import Params

SAMPLE = Path("data/digits")
LARGEST_DEFAULT_SIZE = 128
IMAGES_FOR_MEAN = 2048
MOST_CLASSES_TOLD = 20

IMAGE_SIZE = Key("image_size", int, None, "side that images are scaled to; their median side if absent", low=4)
FITS = ("crop", "pad", "squeeze")
IMAGE_FIT = Key("image_fit", str, "crop", "how an image becomes square: its middle, bars, or squeezed", choices=FITS)
FOLDS = Key("folds", int, None, "parts of the training images for cross-validation", low=2)
FOLD = Key("fold", int, 0, "the part that is val, from 0", low=0)
AUGMENTATIONS = (
    Key("flip", bool, False, "mirror every second image, left to right"),
    Key("shift", float, 0.0, "largest shift, as a fraction of the side", low=0, high=0.5),
    Key("rotate", float, 0.0, "largest turn either way, in degrees", low=0, high=180),
    Key("scale", float, 0.0, "largest change of size, as a fraction", low=0, high=0.9),
    Key("cutout", float, 0.0, "side of a blanked square, as a fraction of the side", low=0, high=1),
)


def fetch_dataloader(types: Sequence[str], data_dir: str | Path, params: Params) -> dict[str, TensorBatches]:
    """The batches of the splits `types` (among train, val, test); what the training images teach is set on `params`."""
    is_training = getattr(params, "classes", None) is None  # once learned, they are with the experiment, back on params
    folder = find_splits(types, Path(data_dir), params)
    if is_training:
        learn_classes_and_sizes(folder, params)
    images = read_images(folder, params.image_size, params.image_channels, params.option(IMAGE_FIT))
    if is_training:
        learn_mean_and_std(images["train"], folder.splits["train"].rows, params)
    log_counts(folder)
    return {split: make_batches(folder, split, images[split], params, is_training) for split in types}


def find_splits(types: Sequence[str], data_dir: Path, params: Params) -> ImageFolder:
    """The images of each split; those of the first run are made on the spot."""
    if data_dir == SAMPLE and not data_dir.exists():
        write_digits(data_dir)
    classes, drawn = getattr(params, "classes", None), getattr(params, "split", None)
    if classes is None and "train" not in types:
        raise UserError(f"{data_dir}: the classes are learned from the training images; train first")
    folds, fold = params.option(FOLDS), params.option(FOLD)
    if fold and not folds:
        raise UserError('params.json: "fold" is one of the parts that "folds" says: set both')
    whole = getattr(params, "is_other_data", False)  # than those trained on: all of them are new to the network
    return find_images(data_dir, types, params.seed, classes, drawn, folds, fold, whole)


def learn_classes_and_sizes(folder: ImageFolder, params: Params) -> None:
    """Set classes, class_counts, image_channels (1 grey, 3 colour), image_size, and a split where one was drawn."""
    shorter, longer, channels = read_headers(folder, "train").T
    params.classes = folder.classes
    params.class_counts = folder.splits["train"].class_counts(len(folder.classes))
    params.image_channels = int(channels.max())
    if folder.not_read:
        params.not_read = folder.not_read
    if folder.drawn:
        params.split = folder.drawn
    if params.option(IMAGE_SIZE) is None:
        params.image_size = int(np.clip(np.median(shorter), IMAGE_SIZE.low, LARGEST_DEFAULT_SIZE))
        logging.info("Images are scaled to %d x %d; set image_size for another", params.image_size, params.image_size)
    narrow = int((shorter < 0.75 * longer).sum())
    if narrow and params.option(IMAGE_FIT) == "crop":
        what = "train: %d of %d images lose more than a quarter at their ends, as the middle square is taken"
        logging.info(f'{what}; "image_fit": "pad" or "squeeze" keeps all', narrow, len(shorter))


def learn_mean_and_std(images: np.ndarray, rows: np.ndarray, params: Params) -> None:
    """Set mean and std, of each channel, in 0..255; so many images spread over the training data are enough."""
    step = math.ceil(len(rows) / IMAGES_FOR_MEAN)
    some = torch.from_numpy(images[rows[::step]]).float()  # (N, C, S, S)
    std, mean = torch.std_mean(some, dim=(0, 2, 3))
    params.mean = [round(value, 3) for value in mean.tolist()]
    params.std = [round(max(value, 1.0), 3) for value in std.tolist()]


def make_batches(
    folder: ImageFolder, name: str, images: np.ndarray, params: Params, is_training: bool
) -> TensorBatches:
    """The batches of one split: shuffled and varied to train on, in order and as they are else."""
    split = folder.splits[name]
    arrays = (images,) if split.labels is None else (images, split.labels)  # (N, C, S, S), uint8; (N,), int64
    varied = is_training and name == "train"
    variations = {key.name: params.option(key) for key in AUGMENTATIONS}
    return TensorBatches(
        *arrays,
        rows=split.rows,
        batch_size=params.batch_size if varied else 4 * params.batch_size,  # no gradients are kept of the others
        shuffle=varied,
        transform=Augmentation(params.mean, params.std, **(variations if varied else {})),
        names=split.names,
    )


def read_input(source: str, params: Params) -> Iterator[tuple[str, Tensor]]:
    """The pixels of an image file to predict, (C, S, S), by its name."""
    pixels = read_image(source, params.image_size, params.image_channels, params.option(IMAGE_FIT))
    yield source, torch.from_numpy(pixels)


def transform_inputs(images: Tensor, params: Params) -> Tensor:
    """Normalised as they were for training: uint8 (B, C, S, S) -> float32 (B, C, S, S)."""
    return Augmentation(params.mean, params.std)(images)


def log_counts(folder: ImageFolder) -> None:
    """Log how many images each class has, and what always guessing the commonest would score."""
    for name, split in folder.splits.items():
        if split.labels is None:
            logging.info("%s: %d images without labels", name, len(split.rows))
            continue
        counts = dict(zip(folder.classes, split.class_counts(len(folder.classes)), strict=True))
        rarest, commonest = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        if len(counts) <= MOST_CLASSES_TOLD:
            told = ", ".join(f"{label}: {count}" for label, count in counts.items())
        else:
            told = f"{len(counts)} classes, from {rarest}: {counts[rarest]} to {commonest}: {counts[commonest]}"
        logging.info("%s: %d images (%s)", name, len(split.rows), told)
        if name == "val":
            score = counts[commonest] / len(split.rows)
            logging.info('Always guessing "%s" would score %.3f on val', commonest, score)
