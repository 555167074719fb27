"""Batches of one's own photographs, scaled and normalised as a network that was trained on ImageNet expects them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from engine.data import Augmentation, TensorBatches, find_images, read_image, read_images
from utils import Params

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # of ImageNet, as torchvision's weights want them
SPLIT_SEED = 230  # not params.seed: with another split, finetune would be tested on what frozen was trained on


def fetch_dataloader(types: Sequence[str], data_dir: str | Path, params: Params) -> dict[str, TensorBatches]:
    """The batches of the splits `types`: (B, 3, S, S) images and (B,) labels."""
    training = not hasattr(params, "classes")  # once learned, they are with the experiment and back on params
    params.provide(begins=training)
    classes, drawn = getattr(params, "classes", None), getattr(params, "split", None)
    folder = find_images(Path(data_dir), types, SPLIT_SEED, classes, drawn)
    params.classes, params.split = folder.classes, folder.drawn
    images = read_images(folder, params.image_size, channels=3)
    batches = {}
    for name, split in folder.splits.items():
        varied = training and name == "train"
        arrays = (images[name],) if split.labels is None else (images[name], split.labels)  # no labels: to predict
        batches[name] = TensorBatches(
            *arrays,
            rows=split.rows,
            batch_size=params.batch_size,
            shuffle=varied,
            transform=Augmentation(MEAN, STD, **({"flip": params.flip, "crop": params.crop} if varied else {})),
            names=split.names,
        )
    return batches


def read_input(source: str, params: Params) -> Iterator[tuple[str, Tensor]]:
    """The pixels of an image file to predict, by its name."""
    yield source, torch.from_numpy(read_image(source, params.image_size, channels=3))


def transform_inputs(images: Tensor, params: Params) -> Tensor:
    """Normalised as they were for training."""
    return Augmentation(MEAN, STD)(images)
