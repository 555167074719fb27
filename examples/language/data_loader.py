"""Stretches of a text, as characters or bytes; each is to be continued by one, at each of its places."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.data import TensorBatches
from engine.errors import UserError
from engine.hyperparameters import Key
from utils import Params

SAMPLE = Path("data/sums")
LINES = 10_000  # of the text that is made on the spot
SHARES = {"train": (0.0, 0.9), "val": (0.9, 0.95), "test": (0.95, 1.0)}  # of the text, from where to where
TOKENS = Key("tokens", str, "characters", "what a text is cut into", choices=("characters", "bytes"))


def fetch_dataloader(types: Sequence[str], data_dir: str | Path, params: Params) -> dict[str, TensorBatches]:
    """Batches of (B, block_size) tokens and the (B, block_size) tokens that come next.

    In training a stretch may begin anywhere, so that a pass has as many as the text has tokens: `steps_per_epoch` says
    when to evaluate. Elsewhere the stretches follow each other, and each token is predicted once.
    """
    data_dir = Path(data_dir)
    if data_dir == SAMPLE and not data_dir.exists():
        write_sums(data_dir)
    tokens = encode(read_text(data_dir), params)
    return {split: stretches(tokens, split, params) for split in types}


def stretches(tokens: Tensor, split: str, params: Params) -> TensorBatches:
    """The stretches of a split, as views of one text: they overlap, and take no memory of their own."""
    length = params.block_size
    start, end = (round(share * len(tokens)) for share in SHARES[split])
    if end - start <= length:
        raise UserError(f"{params.data_dir}: {split} has {end - start} tokens, not more than block_size {length}")
    step = 1 if split == "train" else length
    inputs, labels = (part.unfold(0, length, step) for part in (tokens[start : end - 1], tokens[start + 1 : end]))
    return TensorBatches(inputs, labels, batch_size=params.batch_size, shuffle=split == "train")


def read_text(data_dir: Path) -> str:
    """All text files of a folder, one after the other in the order of their names."""
    files = sorted(data_dir.glob("*.txt"))
    if not files:
        raise UserError(f"{data_dir}: there is no *.txt; name the folder of your text with --data_dir")
    return "".join(file.read_text(encoding="utf-8") for file in files)


def encode(text: str, params: Params) -> Tensor:
    """(N,) tokens of a text. Sets `params.characters`, those that have a number; None where tokens are bytes."""
    if params.option(TOKENS) == "bytes":
        params.characters = None
        return torch.from_numpy(np.frombuffer(text.encode(), dtype=np.uint8).copy())
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    known = getattr(params, "characters", None) or "".join(map(chr, np.unique(codes)))
    numbers = np.full(0x110000, -1, dtype=np.int32)
    numbers[[ord(character) for character in known]] = np.arange(len(known))
    tokens = numbers[codes]
    if unknown := "".join(sorted({chr(code) for code in codes[tokens < 0]})):
        raise UserError(
            f'{unknown[:20]!r} was not in the text that it learned from; with "tokens": "bytes" all is known'
        )
    params.characters = known
    return torch.from_numpy(tokens.astype(np.uint8 if len(known) <= 256 else np.int32))


def read_input(source: str, params: Params) -> Iterator[tuple[str, Tensor]]:
    """The (N,) tokens of a prompt to go on with: a text, or what a text file holds."""
    text = Path(source).read_text(encoding="utf-8") if len(source) < 256 and Path(source).is_file() else source
    if not text:
        raise UserError("holds nothing to go on with")
    yield source, encode(text, params)


# The text that is made on the spot


def write_sums(folder: Path) -> None:
    """Write a text of sums in words: `forty-two plus nine is fifty-one.` Its two numbers, drawn from 0 to 99, are all
    that cannot be foreseen: 2 x log2(100) bits a line of 45.8 characters on average, or 0.290 bits per character."""
    draw = random.Random(0)
    pairs = [(draw.randrange(100), draw.randrange(100)) for _ in range(LINES)]
    folder.mkdir(parents=True)
    lines = [f"{in_words(one)} plus {in_words(other)} is {in_words(one + other)}.\n" for one, other in pairs]
    (folder / "sums.txt").write_text("".join(lines), encoding="utf-8")


UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = [
    "ten",
    "eleven",
    "twelve",
    *(f"{word}teen" for word in ("thir", "four", "fif", "six", "seven", "eigh", "nine")),
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def in_words(number: int) -> str:
    """A number from 0 to 199 in words.

    >>> in_words(142)
    'one hundred forty-two'
    """
    if number >= 100:
        return "one hundred" + (f" {in_words(number - 100)}" if number > 100 else "")
    if number < 20:
        return [*UNITS, *TEENS][number]
    tens = TENS[number // 10 - 2]
    return f"{tens}-{UNITS[number % 10]}" if number % 10 else tens
