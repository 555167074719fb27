"""Noisy copies of three patterns, each made larger or smaller: the kind and the size are to be told."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from utils import Params

SIZES = {"train": 200, "val": 53, "test": 53}
KINDS, FEATURES = 3, 8


def fetch_dataloader(types: Sequence[str], data_dir: str, params: Params) -> dict[str, DataLoader]:
    """Batches of (B, 8) features and labels {"kind": (B,), "size": (B,)}."""
    return {
        split: DataLoader(examples(split), params.batch_size, shuffle=split == "train", num_workers=params.num_workers)
        for split in types
    }


def examples(split: str) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """All examples of a split, one by one."""
    patterns = torch.randn(KINDS, FEATURES, generator=torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(list(SIZES).index(split))
    kinds = torch.randint(KINDS, (SIZES[split],), generator=generator)
    sizes = 0.5 + torch.rand(SIZES[split], generator=generator)
    noise = torch.randn(SIZES[split], FEATURES, generator=generator)
    features = patterns[kinds] * sizes[:, None] + 0.6 * noise
    return [(x, {"kind": kind, "size": size}) for x, kind, size in zip(features, kinds, sizes, strict=True)]
