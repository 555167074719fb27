"""Batches of images and labels out of a folder of images."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.data import Augmentation, ImageFolder, TensorBatches, find_images, read_headers, read_images
from engine.errors import UserError
from engine.hyperparameters import Key
from utils import Params

SAMPLE = Path("data/digits")
LARGEST_DEFAULT_SIZE = 128
IMAGES_FOR_MEAN = 2048

IMAGE_SIZE = Key("image_size", int, None, "side that images are scaled to; their median side if absent", low=4)
FOLDS = (
    Key("folds", int, None, "parts of the training images for cross-validation", low=2),
    Key("fold", int, 0, "the part that is val, from 0", low=0),
)
AUGMENTATIONS = (
    Key("flip", bool, False, "mirror every second image, left to right"),
    Key("shift", float, 0.0, "largest shift, as a fraction of the side", low=0, high=0.5),
    Key("rotate", float, 0.0, "largest turn either way, in degrees", low=0, high=180),
    Key("scale", float, 0.0, "largest change of size, as a fraction", low=0, high=0.9),
    Key("cutout", float, 0.0, "side of a blanked square, as a fraction of the side", low=0, high=1),
)


def fetch_dataloader(types: Sequence[str], data_dir: str | Path, params: Params) -> dict[str, TensorBatches]:
    """The batches of the splits `types` (among train, val, test); what the training images teach is set on `params`."""
    data_dir = Path(data_dir)
    learning = not hasattr(params, "classes")  # once learned, they are with the experiment and back on params
    if data_dir == SAMPLE and not data_dir.exists():
        from engine.data import write_digits

        write_digits(data_dir)
    if learning and "train" not in types:
        raise UserError(f"{data_dir}: the classes are learned from the training images; train first")
    classes = None if learning else params.classes
    folds, fold = (params.option(key) for key in FOLDS)
    if folds and fold >= folds:
        raise UserError(f'params.json: "fold" must be from 0 to {folds - 1}, not {fold}')
    folder = find_images(data_dir, types, params.seed, classes, getattr(params, "split", None), folds, fold)
    if learning:
        learn_classes_and_sizes(folder, data_dir, params)
    images = {
        source: torch.from_numpy(read_images(data_dir, files, source, params.image_size, params.image_channels))
        for source, files in {split.source: split.files for split in folder.splits.values()}.items()
    }
    if learning:
        learn_mean_and_std(images[folder.splits["train"].source], folder.splits["train"].rows, params)
    varied = {key.name: params.option(key) for key in AUGMENTATIONS}
    log_counts(folder)
    batches = {}
    for name, split in folder.splits.items():
        pixels = images[split.source]  # (N, C, S, S), uint8
        training = name == "train" and learning  # shuffled and varied to train on, in order and as they are else
        batches[name] = TensorBatches(
            *((pixels,) if split.labels is None else (pixels, split.labels)),  # labels: (N,), int64
            rows=split.rows,
            batch_size=params.batch_size if training else 4 * params.batch_size,  # no gradients are kept of the others
            shuffle=training,
            transform=Augmentation(params.mean, params.std, **(varied if training else {})),
            names=split.names,
        )
    return batches


def learn_classes_and_sizes(folder: ImageFolder, data_dir: Path, params: Params) -> None:
    """Set classes, class_counts, image_channels (1 grey, 3 colour), image_size and, where they were drawn, split."""
    train = folder.splits["train"]
    sides, channels = read_headers(data_dir, train.files, train.source)[train.rows].T
    params.classes = folder.classes
    params.class_counts = train.class_counts(len(folder.classes))
    params.image_channels = int(channels.max())
    if folder.drawn:
        params.split = folder.drawn
    if params.option(IMAGE_SIZE) is None:
        params.image_size = int(np.clip(np.median(sides), IMAGE_SIZE.low, LARGEST_DEFAULT_SIZE))
        logging.info("Images are scaled to %d x %d; set image_size for another", params.image_size, params.image_size)


def learn_mean_and_std(images: Tensor, rows: np.ndarray, params: Params) -> None:
    """Set mean and std, of each channel, in 0..255; so many images spread over the training data are enough."""
    some = images[rows[:: -(-len(rows) // IMAGES_FOR_MEAN)]].float()
    std, mean = torch.std_mean(some, dim=(0, 2, 3))
    params.mean = [round(value, 3) for value in mean.tolist()]
    params.std = [round(max(value, 1.0), 3) for value in std.tolist()]


def log_counts(folder: ImageFolder) -> None:
    """Log how many images each class has, and what always guessing the commonest would score."""
    for name, split in folder.splits.items():
        if split.labels is None:
            logging.info("%s: %d images without labels", name, len(split.rows))
            continue
        counts = split.class_counts(len(folder.classes))
        each = ", ".join(f"{label}: {count}" for label, count in zip(folder.classes, counts, strict=True))
        logging.info("%s: %d images (%s)", name, sum(counts), each)
        if name == "val":
            commonest = folder.classes[int(np.argmax(counts))]
            logging.info('Always guessing "%s" would score %.3f on val', commonest, max(counts) / sum(counts))
