"""Batches of sentences and the tags of their words, each batch as long as its longest sentence."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Sampler

from engine.errors import UserError
from utils import Params

UNKNOWN, OTHER = "UNK", "O"  # the word for words that are not in words.txt, and the tag of those in no entity
NO_LABEL = -100  # what torch's cross-entropy leaves out
SPREAD = 0.3  # by how much the sentences of a batch may differ in length
EVALUATION_BATCH = 100

Sentence = tuple[Tensor, ...]  # (T,) words, (T,) tags; or the words alone


def fetch_dataloader(types: Sequence[str], data_dir: str, params: Params) -> dict[str, DataLoader]:
    """Batches of ((B, T) words, (B,) lengths) and (B, T) tags; the vocabulary is set on `params`."""
    learning = not hasattr(params, "words")  # once learned, they are with the experiment and back on params
    if learning:
        params.words, params.tags = (read_lines(Path(data_dir) / f"{name}.txt") for name in ("words", "tags"))
    return {split: make_batches(Path(data_dir) / split, params, learning and split == "train") for split in types}


def make_batches(folder: Path, params: Params, training: bool) -> DataLoader[Sentence]:
    """Shuffled batches to train on; of any other split those of its file, in its order."""
    lines = read_lines(folder / "sentences.txt")
    sentences: Any = number_sentences(folder, lines, params)  # a list will do for a data set
    if training:
        order = SimilarLengths([len(words) for words, *_ in sentences], params.batch_size)
        return DataLoader(sentences, batch_sampler=order, collate_fn=pad, num_workers=params.num_workers)
    loader: Any = DataLoader(sentences, EVALUATION_BATCH, collate_fn=pad, num_workers=params.num_workers)
    loader.names = lines  # for the table of predictions
    return loader


class SimilarLengths(Sampler[list[int]]):
    """Batches of sentences about as long as each other, drawn anew each time: it saves most of the padding."""

    def __init__(self, lengths: list[int], batch_size: int) -> None:
        self.lengths = torch.tensor(lengths)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        varied = self.lengths * (1 + SPREAD * torch.rand(len(self.lengths)))
        batches = varied.argsort().split(self.batch_size)
        return (batches[number].tolist() for number in torch.randperm(len(batches)))


def number_sentences(folder: Path, lines: list[str], params: Params) -> list[Sentence]:
    """The words and tags of a split as numbers, or the words alone where there is no labels.txt."""
    words = as_numbers(lines, params.words, UNKNOWN)
    if not (folder / "labels.txt").exists():
        return [(sentence,) for sentence in words]
    tags = as_numbers(read_lines(folder / "labels.txt"), params.tags, OTHER)
    lengths = itertools.zip_longest(map(len, words), map(len, tags), fillvalue=0)
    for line, (number_of_words, number_of_tags) in enumerate(lengths, start=1):
        if number_of_words != number_of_tags:
            sizes = f"{number_of_words} words in sentences.txt and {number_of_tags} tags in labels.txt"
            raise UserError(f"{folder}: line {line} has {sizes}")
    return list(zip(words, tags, strict=True))


def as_numbers(lines: list[str], vocabulary: list[str], default: str) -> list[Tensor]:
    """Each line as (T,) numbers of its words in a vocabulary; of those that are not there, the number of `default`."""
    numbers = {word: number for number, word in enumerate(vocabulary)}
    return [torch.tensor([numbers.get(word, numbers[default]) for word in line.split(" ")]) for line in lines]


def pad(batch: list[Sentence]) -> tuple[Any, ...]:
    """Sentences of different lengths as one batch."""
    words, *tags = map(list, zip(*batch, strict=True))
    inputs = pad_sequence(words, batch_first=True), torch.tensor([len(sentence) for sentence in words])
    return inputs, *(pad_sequence(labels, batch_first=True, padding_value=NO_LABEL) for labels in tags)


def read_input(source: str, params: Params) -> Iterator[tuple[str, Sentence]]:
    """The sentence itself, or each line of a text file: (T,) words and their number."""
    lines = read_lines(Path(source)) if Path(source).is_file() else [source]
    for line, words in zip(lines, as_numbers(lines, params.words, UNKNOWN), strict=True):
        yield line, (words, torch.tensor(len(words)))


def read_lines(path: Path) -> list[str]:
    """The lines of a text file."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; python -m {__package__}.build_vocab says and makes what is needed")
    try:
        return path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
