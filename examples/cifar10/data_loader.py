"""Batches of CIFAR-10, 60,000 photographs of 32 x 32 pixels: torchvision's download, or a folder of images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engine.data import Augmentation, TensorBatches, find_images, read_image, read_images
from engine.hyperparameters import Key
from engine.training import download_errors_explained
from utils import Params

GREY = [127.5] * 3  # subtracted from the pixels, then what they are divided by: they become numbers from -1 to 1
SMALLEST = 1.25e-4  # is added to variances, so that what is next to nothing, as the noise is, does not become large
VAL_EVERY = Key("val_every", int, 10, "every so-manieth train image is val, and not trained on", low=2)
REFLECT = Key("reflect", bool, False, "what comes in by a shift is what lies within, mirrored")
WHITENING_IMAGES = Key("whitening_images", int, None, "train images from which to learn how to whiten patches", low=1)


def fetch_dataloader(types: Sequence[str], data_dir: str | Path, params: Params) -> dict[str, TensorBatches]:
    """The batches of the splits `types`: (B, 3, 32, 32) images and (B,) labels; some of the train images are val."""
    training = not hasattr(params, "classes")  # once learned, they are with the experiment and back on params
    variations = {name: getattr(params, name) for name in ("flip", "shift", "crop", "cutout")}
    variations["reflect"] = params.option(REFLECT)
    val_every, whitening_images = params.option(VAL_EVERY), params.option(WHITENING_IMAGES)
    sources = {split: "test" if split == "test" else "train" for split in types}
    found = {source: read(Path(data_dir), source) for source in dict.fromkeys(sources.values())}
    batches = {}
    for split, source in sources.items():
        images, labels, params.classes = found[source]
        rows = np.arange(len(images))
        if split != "test":
            rows = rows[(rows % val_every == 0) == (split == "val")]
        varied = training and split == "train"
        if varied and whitening_images is not None:
            params.whitening = whitening(images[rows[:: max(1, len(rows) // whitening_images)]]).tolist()
        kind = AlternatingFlip if varied and params.alternating_flip else TensorBatches
        batches[split] = kind(
            images,
            labels,
            rows=rows,
            batch_size=params.batch_size if varied else 500,  # no gradients are kept of the others
            shuffle=varied,
            transform=Augmentation(GREY, GREY, **(variations if varied else {})),
        )
    return batches


def read(data_dir: Path, split: str) -> tuple[Tensor, Tensor, list[str]]:
    """All images of `train` or `test`, uint8 (N, 3, 32, 32), with their labels (N,) and the names of the classes."""
    if (data_dir / "train").is_dir():  # of folders, one for each class
        folder = find_images(data_dir, [split], seed=0)
        images, labels = read_images(folder, 32, channels=3)[split], folder.splits[split].labels
        return torch.from_numpy(images), torch.from_numpy(labels), folder.classes
    from torchvision.datasets import CIFAR10

    with download_errors_explained(f"{data_dir}: CIFAR-10", "or set data_dir to a folder with train/<class>/*.png"):
        photographs = CIFAR10(data_dir, train=split == "train", download=True)
    pixels = torch.from_numpy(photographs.data).permute(0, 3, 1, 2).contiguous()
    return pixels, torch.tensor(photographs.targets), photographs.classes


def whitening(images: Tensor) -> Tensor:
    """Filters (12, 12) for patches of 2x2, by which those of the images, uint8 (N, 3, H, W), have variances of 1.

    The eigenvectors of what the numbers of a patch have in common, each over the root of its eigenvalue.
    """
    patches = functional.unfold(Augmentation(GREY, GREY)(images), 2)  # (N, 12, (H - 1) * (W - 1))
    numbers = patches.transpose(0, 1).flatten(1)
    values, vectors = torch.linalg.eigh(numbers @ numbers.T / numbers.shape[1])
    return (vectors / (values + SMALLEST).sqrt()).T


class AlternatingFlip(TensorBatches):
    """A pass shows each image twice, once of it mirrored, and so do all passes: the next look is always the other one.

    The alternating flip of Keller Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024.
    """

    def __init__(self, images: Tensor, labels: Tensor, rows: np.ndarray, **options: Any) -> None:
        plain, mirrored = rows[::2], rows[1::2]  # to begin with
        first = torch.cat([images[plain], images[mirrored].flip(3)])
        super().__init__(torch.cat([first, first.flip(3)]), labels[np.concatenate([plain, mirrored] * 2)], **options)
        self.members, self.pool = torch.from_numpy(rows), len(images)  # of the data, as in the other splits

    def order(self) -> tuple[Tensor, ...]:
        """The rows of each batch: all first looks in a random order, then all second ones in another."""
        number = len(self.rows) // 2
        rows = torch.cat([torch.randperm(number), number + torch.randperm(number)])
        return rows.to(self.tensors[0].device).split(self.batch_size)


def read_input(source: str, params: Params) -> Iterator[tuple[str, Tensor]]:
    """The pixels of an image file to predict, by its name."""
    yield source, torch.from_numpy(read_image(source, 32, channels=3))


def transform_inputs(images: Tensor, params: Params) -> Tensor:
    """Normalised as they were for training."""
    return Augmentation(GREY, GREY)(images)
