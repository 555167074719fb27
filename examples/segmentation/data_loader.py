"""Batches of photographs and masks, which say the class of each pixel; both are decoded once and moved alike."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.data import (
    Augmentation,
    ImageFolder,
    Split,
    TensorBatches,
    read_headers,
    read_image,
    read_images,
    read_masks,
    upright_size,
    write_shapes,
)
from engine.errors import UserError
from engine.hyperparameters import Key
from utils import Params

SAMPLE = Path("data/shapes")
NO_LABEL = 255  # of pixels that count for nothing
SHARE = 0.15  # of val, and of test, where they are drawn
IMAGE_SIZE = Key("image_size", int, 64, "side that images and masks are scaled to", low=16)
IGNORED = Key(
    "ignored", int, 255, "the number in a mask that counts for nothing; -1 if there is none", low=-1, high=255
)

Pairs = dict[str, str]  # the mask of each image, both relative to the data folder


def fetch_dataloader(types: Sequence[str], data_dir: str | Path, params: Params) -> dict[str, TensorBatches]:
    """The batches of the splits `types`: (B, 3, S, S) images and (B, S, S) masks of classes."""
    data_dir = Path(data_dir)
    if data_dir == SAMPLE and not data_dir.exists():
        write_shapes(data_dir)
    is_training = getattr(params, "mask_values", None) is None  # once learned, they are back on params
    pairs = {split: pairs_of(data_dir, split, params) for split in types}
    images, masks = as_folder(data_dir, "images", pairs, list), as_folder(data_dir, "masks", pairs, dict.values)
    check_shapes(images, masks)
    pixels = read_images(images, params.option(IMAGE_SIZE), channels=3)
    numbers = read_masks(masks, params.option(IMAGE_SIZE))
    if is_training:
        learn(pixels["train"], numbers["train"], params)
    return {
        split: PairBatches(
            pixels[split],
            classes_of(numbers[split], split, params),
            batch_size=params.batch_size,
            shuffle=is_training and split == "train",
            transform=Augmentation(params.mean, params.std),
            names=list(pairs[split]),
        ).varied(params.flip, params.shift, is_training and split == "train")
        for split in types
    }


class PairBatches(TensorBatches):
    """Batches whose images and masks are mirrored and shifted alike, pixel by pixel, so that no class is made up."""

    variation: Augmentation | None = None

    def varied(self, flip: bool, shift: float, on: bool) -> "PairBatches":
        """Itself, with each image varied at random if that is `on`."""
        self.variation = Augmentation([0.0], [1.0], flip=flip, shift=shift) if on and (flip or shift) else None
        return self

    def batch(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The examples at `rows`: normalised (B, 3, S, S) images and (B, S, S) classes."""
        both = torch.cat([self.tensors[0][rows], self.tensors[1][rows][:, None]], dim=1)  # uint8 (B, 4, S, S)
        both = both.to(self.device, non_blocking=True)
        if self.variation is not None:
            both = self.variation.move(both)
        assert self.transform is not None
        return self.transform(both[:, :3]), both[:, 3].long()


def pairs_of(data_dir: Path, split: str, params: Params) -> Pairs:
    """The pairs in the folder of a split; without one, those that are drawn for it, by the seed, once."""
    if (data_dir / split).is_dir():
        return pairs_below(data_dir, f"{split}/")
    pairs = pairs_below(data_dir, "")
    if getattr(params, "is_other_data", False):  # than those trained on: all of them are new to the network
        return pairs
    if getattr(params, "split", None) is None:
        order = np.random.default_rng(params.seed).permutation(sorted(pairs)).tolist()
        count = max(1, round(SHARE * len(order)))
        params.split = {"val": sorted(order[:count]), "test": sorted(order[count : 2 * count])}
    held_out = {image for some in params.split.values() for image in some}
    chosen = set(params.split[split]) if split in params.split else set(pairs) - held_out
    if gone := chosen - set(pairs) or (set() if chosen else {f"{split}/images"}):
        raise UserError(f"{data_dir / min(gone)}: is not there, and {split} needs it; put it back, or add more images")
    return {image: mask for image, mask in pairs.items() if image in chosen}


def pairs_below(data_dir: Path, parent: str) -> Pairs:
    """`images/a.jpg` and `masks/a.png`, by their names. Raises `UserError` for one without the other."""
    images, masks = (by_stem(data_dir, f"{parent}{part}") for part in ("images", "masks"))
    if not images:
        raise UserError(f"{data_dir / parent}images: holds no images; put them there, and their masks into masks/")
    if odd := set(images) ^ set(masks):
        path = (images | masks)[min(odd)]
        raise UserError(
            f"{data_dir / path}: has no partner of the same name ({len(odd)} in all); add it, or move this one"
        )
    return {images[name]: masks[name] for name in images}


def by_stem(data_dir: Path, folder: str) -> dict[str, str]:
    """The files in a folder by their names without the ending, which is to tell each from all others."""
    found: dict[str, str] = {}
    for path in sorted((data_dir / folder).glob("[!.]*")):
        if path.stem in found:
            raise UserError(f"{path}: {found[path.stem]} is called so, too; the mask of an image is found by its name")
        found[path.stem] = f"{folder}/{path.name}"
    return found


def as_folder(
    data_dir: Path, part: str, pairs: dict[str, Pairs], chosen: Callable[[Pairs], Iterable[str]]
) -> ImageFolder:
    """One side of the pairs, as what is decoded into a cache."""
    files = {split: list(chosen(some)) for split, some in pairs.items()}
    splits = {split: Split(f"{split}-{part}", some, None, np.arange(len(some))) for split, some in files.items()}
    return ImageFolder(data_dir, [], splits, {}, {})


def check_shapes(images: ImageFolder, masks: ImageFolder) -> None:
    """Raise `UserError` where a mask has not the shape of its image: cropped alike, they would be of other places."""
    for split in images.splits:
        shapes, others = (read_headers(folder, split)[:, :2].astype(np.float64) for folder in (images, masks))
        wrong = np.flatnonzero(np.abs(shapes[:, 0] * others[:, 1] / (shapes[:, 1] * others[:, 0]) - 1) > 0.02)
        if len(wrong):
            image, mask = (folder.splits[split].files[wrong[0]] for folder in (images, masks))
            raise UserError(f"{images.data_dir / mask}: has another shape than {image} ({len(wrong)} such in {split})")


def read_input(source: str, params: Params) -> Iterator[tuple[str, Tensor]]:
    """A whole photograph, its shorter side as long as those that were trained on, its longer one a multiple of 4."""
    side, (width, height) = params.option(IMAGE_SIZE), upright_size(source)
    longer = max(side, 4 * round(side * max(width, height) / min(width, height) / 4))
    square = torch.from_numpy(read_image(source, longer, channels=3, fit="pad"))  # with bars beside the shorter side
    start = (longer - side) // 2
    yield source, square.narrow(2 if width < height else 1, start, side)


def transform_inputs(images: Tensor, params: Params) -> Tensor:
    """Normalised as they were for training."""
    return Augmentation(params.mean, params.std)(images)


def learn(pixels: np.ndarray, numbers: np.ndarray, params: Params) -> None:
    """Set mean and std of the training images, and mask_values: the number in the masks for each class."""
    std, mean = torch.std_mean(torch.from_numpy(pixels[:: 1 + len(pixels) // 1000]).float(), dim=(0, 2, 3))
    params.mean, params.std = mean.tolist(), std.clamp(min=1).tolist()
    params.mask_values = [int(value) for value in np.unique(numbers) if value != params.option(IGNORED)]
    if len(params.mask_values) < 2:
        raise UserError(
            f'the masks hold only {params.mask_values} beside "ignored": {params.option(IGNORED)}; is that so?'
        )


def classes_of(numbers: np.ndarray, split: str, params: Params) -> np.ndarray:
    """Masks of numbers as masks of classes, from 0 on: uint8 (N, S, S)."""
    table = np.full(256, NO_LABEL, np.uint8)
    table[params.mask_values] = np.arange(len(params.mask_values))
    unknown = set(np.unique(numbers).tolist()) - set(params.mask_values) - {params.option(IGNORED)}
    if unknown:
        raise UserError(f"the masks of {split} hold {min(unknown)}, which those of train do not; is it to be ignored?")
    return table[numbers]
