"""Build the vocabulary of a corpus: the words and tags that a network knows, each by the number of its line.

    python -m examples.ner.build_vocab
    python -m examples.ner.build_vocab --data_dir data/kaggle --min_count_word 2

The data folder holds {train,val,test}/sentences.txt and labels.txt: a sentence per line, a blank between words, a tag
for each. Words are taken from train alone, so that those of val and test are as unknown as those of any new text. Tags
are the task itself and come from all splits. It writes words.txt, tags.txt and dataset_params.json.
"""

import argparse
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.errors import UserError, run
from engine.files import replacing, write_json

SMALL = Path(__file__).parent / "data"
SPLITS = ("train", "val", "test")
PADDING, UNKNOWN = "<pad>", "UNK"  # the first two words: what fills up a batch, and every word that is not there
OTHER = "O"  # the first tag: of words in no entity, and of tags that are too rare

Counts = tuple[int, Counter[str], Counter[str]]  # of sentences, of each word, of each tag


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `arguments` stand in for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, default=SMALL, help="folder of the corpus")
    parser.add_argument("--min_count_word", type=int, default=1, help="times that a word must occur in train")
    parser.add_argument("--min_count_tag", type=int, default=1, help="times that a tag must occur in all")
    return parser.parse_args(arguments)


def read_lines(path: Path) -> list[list[str]]:
    """The words of each line of a text file; blanks alone part them, as some words hold stranger spaces."""
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; a corpus has {{train,val,test}}/{{sentences,labels}}.txt") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    return [line.split(" ") for line in lines]


def count_split(folder: Path) -> Counts:
    """Count sentences, words and tags of a split. Raises `UserError` where its two files do not match."""
    words, tags = Counter[str](), Counter[str]()
    pairs: Iterator[tuple[list[str], list[str]]] = itertools.zip_longest(
        read_lines(folder / "sentences.txt"), read_lines(folder / "labels.txt"), fillvalue=[]
    )
    for line, (sentence, labels) in enumerate(pairs, start=1):
        if len(sentence) != len(labels):
            raise UserError(
                f"{folder}: line {line} has {len(sentence)} words in sentences.txt and {len(labels)} tags in labels.txt"
            )
        for tag in labels:
            if not tag or tag[:2] in ("S-", "E-", "L-", "U-"):
                how = "write the names as B-... for the first word and I-... for each further one, or as plain tags"
                raise UserError(
                    f'{folder}/labels.txt: line {line}: "{tag}" is of a scheme that is not read here; {how}'
                )
        words.update(sentence)
        tags.update(labels)
    return line, words, tags


def frequent(counts: Counter[str], least: int, first: Sequence[str]) -> list[str]:
    """The entries that come first in any case, then those that occur often enough, the commonest before the others."""
    return [*first, *(entry for entry, number in counts.most_common() if number >= least and entry not in first)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Count, keep what is frequent enough, and write it."""
    options = parse_arguments(arguments)
    folder = options.data_dir
    counts = {split: count_split(folder / split) for split in SPLITS if split == "train" or (folder / split).is_dir()}
    words = frequent(counts["train"][1], options.min_count_word, [PADDING, UNKNOWN])
    tags = frequent(sum((tags for *_, tags in counts.values()), Counter[str]()), options.min_count_tag, [OTHER])
    for name, entries in (("words", words), ("tags", tags)):
        with replacing(folder / f"{name}.txt") as file:
            file.write("".join(f"{entry}\n" for entry in entries).encode())
    sizes = {f"{split}_size": sentences for split, (sentences, *_) in counts.items()}
    numbers = {"vocab_size": len(words), "number_of_tags": len(tags)}
    names = {"pad_word": PADDING, "pad_tag": OTHER, "unk_word": UNKNOWN}
    write_json(folder / "dataset_params.json", {**sizes, **numbers, **names})
    for split, (sentences, words_there, tags_there) in counts.items():
        known, other = share(words_there, set(words)), share(tags_there, {OTHER})
        print(f"{split}: {sentences} sentences, {1 - known:.1%} of the words unknown, {other:.1%} tagged {OTHER}")
    print(f"{folder}: wrote words.txt ({len(words)}), tags.txt ({len(tags)}) and dataset_params.json")


def share(counts: Counter[str], entries: set[str]) -> float:
    """What part of all that was counted is one of the entries."""
    return sum(number for entry, number in counts.items() if entry in entries) / counts.total()


if __name__ == "__main__":
    run(main)
