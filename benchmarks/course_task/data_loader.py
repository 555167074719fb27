"""The images of `images.py`, resident: decoded once, scaled to 0..1, mirrored at random."""

from pathlib import Path

from engine.data import Augmentation, TensorBatches, find_images, read_images
from engine.hyperparameters import Params


def fetch_dataloader(types: list[str], data_dir: str, params: Params) -> dict[str, TensorBatches]:
    """The batches of each split."""
    folder = find_images(Path(data_dir), types, params.seed)
    images = read_images(folder, size=64, channels=3)
    return {
        name: TensorBatches(
            images[name],
            split.labels,
            batch_size=params.batch_size,
            shuffle=name == "train",
            transform=Augmentation([0.0] * 3, [255.0] * 3, flip=name == "train"),
        )
        for name, split in folder.splits.items()
    }
