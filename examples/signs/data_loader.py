"""Batches of hand signs, 64 x 64 pixels each, decoded once and kept in memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from engine.data import Augmentation, TensorBatches, find_images, read_image, read_images
from utils import Params

SIZE = 64
BLACK, WHITE = [0.0] * 3, [255.0] * 3  # pixels become numbers from 0 to 1


def fetch_dataloader(types: Sequence[str], data_dir: str | Path, params: Params) -> dict[str, TensorBatches]:
    """The batches of the splits `types`: (B, 3, 64, 64) images and (B,) labels."""
    training = not hasattr(params, "classes")  # once learned, they are with the experiment and back on params
    folder = find_images(Path(data_dir), types, params.seed, getattr(params, "classes", None))
    params.classes = folder.classes
    variations = {"flip": params.flip, "shift": params.shift, "rotate": params.rotate, "scale": params.scale}
    images = read_images(folder, SIZE, channels=3)
    batches = {}
    for name, split in folder.splits.items():
        varied = training and name == "train"
        arrays = (images[name],) if split.labels is None else (images[name], split.labels)  # no labels: to predict
        batches[name] = TensorBatches(
            *arrays,
            rows=split.rows,
            batch_size=params.batch_size,
            shuffle=varied,
            transform=Augmentation(BLACK, WHITE, **(variations if varied else {})),
            names=split.names,
        )
    return batches


def read_input(source: str, params: Params) -> Iterator[tuple[str, Tensor]]:
    """The pixels of an image file to predict, by its name."""
    yield source, torch.from_numpy(read_image(source, SIZE, channels=3))


def transform_inputs(images: Tensor, params: Params) -> Tensor:
    """Normalised as they were for training."""
    return Augmentation(BLACK, WHITE)(images)
