"""A small U-Net; cross-entropy and Dice; mean intersection over union and Dice over the whole split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex

from engine.data import upright_size
from engine.errors import UserError
from engine.hyperparameters import Key
from utils import Params

NO_LABEL = 255  # of pixels that count for nothing
NUM_CHANNELS = Key("num_channels", int, 16, "channels at full size; twice and four times as many further down", low=1)
SHOWN = 8  # images in the picture that the report leaves


class Net(nn.Module):
    """(B, 3, S, S) images -> (B, classes, S, S) logits; after Ronneberger et al., "U-Net", 2015."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        if params.image_size % 4:
            raise UserError(f'params.json: "image_size" must be a multiple of 4, not {params.image_size}')
        width = params.option(NUM_CHANNELS)
        self.first, self.second = twice(3, width), twice(width, 2 * width)
        self.bottom = twice(2 * width, 4 * width)
        self.up_second = nn.ConvTranspose2d(4 * width, 2 * width, kernel_size=2, stride=2)
        self.second_again = twice(4 * width, 2 * width)
        self.up_first = nn.ConvTranspose2d(2 * width, width, kernel_size=2, stride=2)
        self.first_again = twice(2 * width, width)
        self.classifier = nn.Conv2d(width, len(params.mask_values), kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Down to a quarter of the side and up again, where what was seen on the way down is seen once more."""
        first = self.first(images)  # (B, C, S, S)
        second = self.second(functional.max_pool2d(first, 2))  # (B, 2C, S/2, S/2)
        bottom = self.bottom(functional.max_pool2d(second, 2))  # (B, 4C, S/4, S/4)
        second = self.second_again(torch.cat([second, self.up_second(bottom)], dim=1))  # (B, 2C, S/2, S/2)
        first = self.first_again(torch.cat([first, self.up_first(second)], dim=1))  # (B, C, S, S)
        return self.classifier(first)


def twice(channels_in: int, channels_out: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with normalisation and ReLU: (B, channels_in, H, W) -> (B, channels_out, H, W)."""
    layers: list[nn.Module] = []
    for channels in (channels_in, channels_out):
        layers += [nn.Conv2d(channels, channels_out, kernel_size=3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def loss_fn(outputs: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """Cross-entropy and 1 - Dice of (B, C, S, S) logits and (B, S, S) classes, each a mean over the images."""
    outputs = outputs.float()
    counted = (masks != NO_LABEL).float()  # (B, S, S)
    each = functional.cross_entropy(outputs, masks, ignore_index=NO_LABEL, reduction="none")  # (B, S, S)
    entropy = (each.sum(dim=(1, 2)) / counted.sum(dim=(1, 2)).clamp(min=1)).mean()
    truth = functional.one_hot(masks.where(masks != NO_LABEL, 0), outputs.shape[1]).permute(0, 3, 1, 2)
    truth, guess = truth * counted[:, None], outputs.softmax(dim=1) * counted[:, None]  # (B, C, S, S)
    overlap, size = (truth * guess).sum(dim=(2, 3)), (truth + guess).sum(dim=(2, 3))  # (B, C)
    dice = 1 - ((2 * overlap + 1) / (size + 1)).mean()
    return {"loss": entropy + dice, "entropy": entropy, "dice_loss": dice}


def metrics(params: Params) -> dict[str, Any]:
    """Means over the classes, of all pixels of a split that count."""
    options: dict[str, Any] = {"num_classes": len(params.mask_values), "average": "macro", "ignore_index": NO_LABEL}
    return {"mean_iou": MulticlassJaccardIndex(**options), "dice": MulticlassF1Score(**options)}


def predict(outputs: Tensor, params: Params) -> dict[str, Tensor]:
    """The share of each image that is of each class, by the number of that class in the masks."""
    shares = functional.one_hot(outputs.argmax(dim=1), outputs.shape[1]).float().mean(dim=(1, 2))  # (B, C)
    return {f"share_of_{value}": shares[:, place] for place, value in enumerate(params.mask_values)}


def predict_new(model: Net, images: Tensor, names: Sequence[str], params: Params) -> dict[str, Any]:
    """The same of photographs, and their masks: as large as they are, indexed, with the numbers that train has."""
    outputs = model(images)
    table = torch.tensor(params.mask_values, dtype=torch.uint8)
    masks = table[outputs.argmax(dim=1).cpu()].numpy()  # (B, H, W)
    return {**predict(outputs, params), "mask": [as_picture(*pair) for pair in zip(masks, names, strict=True)]}


def as_picture(mask: np.ndarray, name: str) -> Image.Image:
    """An (H, W) mask as an indexed image of the size of the photograph in a file."""
    picture = Image.fromarray(mask).convert("P")
    colours = np.random.default_rng(7).integers(64, 256, (256, 3), np.uint8)
    colours[0] = 0  # most often the background
    picture.putpalette(colours.tobytes())
    return picture.resize(upright_size(name), Image.Resampling.NEAREST)


@torch.no_grad()
def report(predictions: Any, folder: Path) -> None:
    """A picture of the images with the most pixels wrong: as they are, as they should be, and as they were taken."""
    from matplotlib.figure import Figure

    seen: list[tuple[float, Tensor, Tensor, Tensor]] = []
    for rows in predictions.batches.order():
        images, masks = predictions.batches.batch(rows)
        guesses = predictions.model(images).argmax(dim=1)
        wrong = ((guesses != masks) & (masks != NO_LABEL)).float().mean(dim=(1, 2))
        pixels = predictions.batches.tensors[0][rows]
        seen += zip(wrong.tolist(), pixels.cpu(), masks.cpu(), guesses.cpu(), strict=True)
    worst = sorted(seen, key=lambda one: -one[0])[:SHOWN]
    figure = Figure(figsize=(1.7 * len(worst), 5.4), dpi=110, layout="constrained")
    figure.suptitle(
        f"{predictions.split}: the {len(worst)} of {len(seen)} images with the most pixels wrong; true, predicted"
    )
    classes: dict[str, Any] = {"cmap": "tab10", "vmin": 0, "vmax": 9, "interpolation": "nearest"}
    plain: dict[str, Any] = {}
    for place, (wrong, pixels, mask, guess) in enumerate(worst, start=1):
        shown = mask.float().where(mask != NO_LABEL, torch.nan)  # what counts for nothing is left blank
        for line, (picture, options) in enumerate(
            ((pixels.permute(1, 2, 0), plain), (shown, classes), (guess, classes))
        ):
            axes = figure.add_subplot(3, len(worst), line * len(worst) + place)
            axes.imshow(picture.numpy(), **options)
            axes.set_axis_off()
        figure.axes[-3].set_title(f"{wrong:.1%} wrong", fontsize=8)
    figure.savefig(folder / f"segmented_{predictions.split}.png")
