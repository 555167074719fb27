"""Sentences of words from a made-up language, and a tag for each word that depends on the word before it as well."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from utils import Params

SIZES = {"train": 150, "val": 41, "test": 41}
WORDS, TAGS, LONGEST = 9, 3, 12
PADDING = 0  # the word that fills up a batch

Sentence = tuple[Tensor, Tensor]


def fetch_dataloader(types: Sequence[str], data_dir: str, params: Params) -> dict[str, DataLoader]:
    """Batches of (B, T) words and (B, T) tags, T the length of the longest; learns the size of the vocabulary."""
    if "train" in types:
        params.vocabulary_size = 1 + int(max(words.max() for words, _ in sentences("train")))
    return {
        split: DataLoader(
            sentences(split),
            params.batch_size,
            shuffle=split == "train",
            num_workers=params.num_workers,
            collate_fn=pad,
        )
        for split in types
    }


def pad(batch: list[Sentence]) -> Sentence:
    """Sentences of different lengths as two tensors; what the tag of a padding is does not matter."""
    words, tags = zip(*batch, strict=True)
    return pad_sequence(words, batch_first=True, padding_value=PADDING), pad_sequence(tags, batch_first=True)


def sentences(split: str) -> list[Sentence]:
    """All sentences of a split, one by one, with their tags."""
    generator = torch.Generator().manual_seed(list(SIZES).index(split))
    found = []
    for length in torch.randint(1, LONGEST + 1, (SIZES[split],), generator=generator).tolist():
        words = torch.randint(1, 1 + WORDS, (length,), generator=generator)
        found.append((words, (words + words.roll(1)) % TAGS))
    return found
