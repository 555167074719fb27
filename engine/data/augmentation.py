"""Batched augmentation: raw pixels in, what the network sees out, on whichever device the batch is."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


class Augmentation:
    """Normalise a batch of images and vary each at random; what is off costs nothing.

    >>> augment = Augmentation(params.mean, params.std, flip=True, shift=0.1, rotate=15)
    >>> inputs = augment(images)  # uint8 (B, C, H, W) -> float32 (B, C, H, W)

    `mean` and `std` are those of each channel, in 0..255. `flip` mirrors every second image, left to right. `shift` and
    `scale` go up to that fraction of the side, `rotate` up to that many degrees, either way. `crop` enlarges a random
    part of at least that fraction of the area. `cutout` blanks a square with that fraction of the side. What comes in
    from beyond the edge is the edge, or with `reflect` what lies within, mirrored. Every draw is of PyTorch's global
    generator.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        flip: bool = False,
        shift: float = 0.0,
        rotate: float = 0.0,
        scale: float = 0.0,
        cutout: float = 0.0,
        crop: float = 0.0,
        reflect: bool = False,
    ) -> None:
        self.mean = torch.tensor(mean).view(1, -1, 1, 1)
        self.std = torch.tensor(std).view(1, -1, 1, 1)
        self.flip, self.shift, self.rotate, self.scale, self.cutout = flip, shift, rotate, scale, cutout
        self.crop, self.reflect = crop, reflect

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> float32 (B, C, H, W)."""
        warped = bool(self.rotate or self.scale or self.crop)
        if not warped and (self.flip or self.shift):
            images = self.move(images)
        self.mean, self.std = self.mean.to(images.device), self.std.to(images.device)
        inputs = (images - self.mean).div_(self.std)
        if warped:
            inputs = self.warp(inputs)
        return self.cut(inputs) if self.cutout else inputs

    def move(self, images: Tensor) -> Tensor:
        """Flip and shift by whole pixels: every output pixel is looked up."""
        count, _, height, width = images.shape
        draws = torch.rand(3, count, 1, device=images.device)
        rows = torch.arange(height, device=images.device) + ((2 * draws[0] - 1) * self.shift * height).round().long()
        columns = torch.arange(width, device=images.device) + ((2 * draws[1] - 1) * self.shift * width).round().long()
        if self.flip:
            columns = torch.where(draws[2] < 0.5, width - 1 - columns, columns)
        places = self.within(rows, height)[:, :, None] * width + self.within(columns, width)[:, None, :]
        return images.flatten(2).gather(2, places.view(count, 1, -1).expand(-1, images.shape[1], -1)).view_as(images)

    def within(self, places: Tensor, size: int) -> Tensor:
        """Rows or columns beyond the edge brought back into the image."""
        if self.reflect:
            places = torch.where(places < 0, -1 - places, places)
            places = torch.where(places >= size, 2 * size - 1 - places, places)
        return places.clamp_(0, size - 1)

    def warp(self, inputs: Tensor) -> Tensor:
        """Flip, shift, rotate and scale in one resampling."""
        count, _, height, width = inputs.shape
        draws = 2 * torch.rand(5, count, device=inputs.device) - 1
        angle = torch.deg2rad(draws[0] * self.rotate)
        size = 1 / (1 + draws[1] * self.scale)
        mirror = torch.where(draws[2] < 0, -1.0, 1.0) if self.flip else torch.ones_like(angle)
        # Rows are (x, y, 1) -> x and -> y of the place to look at, in units where the image reaches from -1 to 1.
        across = torch.stack([mirror * size * angle.cos(), -mirror * size * angle.sin(), 2 * self.shift * draws[3]], 1)
        down = torch.stack([size * angle.sin(), size * angle.cos(), 2 * self.shift * draws[4]], 1)
        places = torch.stack([across, down], 1)
        if self.crop:
            places = self.part(places)
        grid = functional.affine_grid(places, [count, 1, height, width], align_corners=False)
        beyond = "reflection" if self.reflect else "border"
        return functional.grid_sample(inputs, grid, padding_mode=beyond, align_corners=False)

    def part(self, places: Tensor) -> Tensor:
        """Look within a random part of each image only, of 3:4 to 4:3, as torchvision's RandomResizedCrop does."""
        area, ratio, *centre = torch.rand(4, len(places), device=places.device)
        side = (self.crop + (1 - self.crop) * area).sqrt()
        stretch = (4 / 3) ** (ratio - 0.5)
        sides = torch.stack([side * stretch, side / stretch], 1).clamp_(max=1)  # (B, 2): width, height
        places = places * sides[:, :, None]
        places[:, :, 2] += (2 * torch.stack(centre, 1) - 1) * (1 - sides)
        return places

    def cut(self, inputs: Tensor) -> Tensor:
        """Blank a square around a random place with 0, the mean colour; less of it where it crosses the edge."""
        count, _, height, width = inputs.shape
        centre = torch.rand(2, count, 1, device=inputs.device)
        reach = self.cutout / 2
        rows = ((torch.arange(height, device=inputs.device) + 0.5) / height - centre[0]).abs() <= reach
        columns = ((torch.arange(width, device=inputs.device) + 0.5) / width - centre[1]).abs() <= reach
        return inputs.masked_fill_(rows[:, None, :, None] & columns[:, None, None, :], 0.0)
