"""Batches of MNIST, the 70,000 handwritten digits; torchvision downloads them where they are not there yet."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.data import Augmentation, TensorBatches, read_image
from engine.training import download_errors_explained
from utils import Params

GREY = [127.5]  # subtracted from the pixels, then what they are divided by: they become numbers from -1 to 1


def fetch_dataloader(types: Sequence[str], data_dir: str | Path, params: Params) -> dict[str, TensorBatches]:
    """The batches of the splits `types`: (B, 1, 28, 28) images and (B,) labels; every tenth train image is val."""
    from torchvision.datasets import MNIST

    training = not hasattr(params, "classes")  # once learned, they are with the experiment and back on params
    params.classes = [str(digit) for digit in range(10)]
    batches = {}
    for split in types:
        with download_errors_explained(f"{data_dir}: MNIST", f"put its four files into {Path(data_dir) / 'MNIST/raw'}"):
            digits = MNIST(data_dir, train=split != "test", download=True)
        rows = np.arange(len(digits))
        held_out = rows % 10 == 0
        varied = training and split == "train"
        batches[split] = TensorBatches(
            digits.data.unsqueeze(1),
            digits.targets,
            rows={"train": rows[~held_out], "val": rows[held_out], "test": rows}[split],
            batch_size=params.batch_size if varied else 500,  # no gradients are kept of the others
            shuffle=varied,
            transform=Augmentation(GREY, GREY, shift=params.shift if varied else 0.0),
        )
    return batches


def read_input(source: str, params: Params) -> Iterator[tuple[str, Tensor]]:
    """The pixels of an image file to predict, by its name."""
    yield source, torch.from_numpy(read_image(source, 28, channels=1))


def transform_inputs(images: Tensor, params: Params) -> Tensor:
    """Normalised as they were for training."""
    return Augmentation(GREY, GREY)(images)
