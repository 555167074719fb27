"""Cut Kaggle's Annotated Corpus for Named Entity Recognition into train, val and test (70, 15 and 15 %), as CS230 did.

    python -m examples.ner.build_dataset ner_dataset.csv
    python -m examples.ner.build_vocab --data_dir data/kaggle

The file has a word in each line, with its tag, and the number of its sentence in the first word of each.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

from engine.errors import UserError, run
from engine.files import replacing

SPLITS = {"train": (0, 0.7), "val": (0.7, 0.85), "test": (0.85, 1)}  # from where to where, in the order of the file
NUMBER, WORD, TAG = "Sentence #", "Word", "Tag"

Sentence = list[tuple[str, str]]  # words with their tags


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `arguments` stand in for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="ner_dataset.csv, as it comes from Kaggle")
    parser.add_argument("--data_dir", type=Path, default="data/kaggle", help="folder to write to")
    return parser.parse_args(arguments)


def read_sentences(path: Path) -> list[Sentence]:
    """All sentences of Kaggle's file, which is encoded as Windows once did."""
    sentences: list[Sentence] = []
    try:
        with path.open(encoding="windows-1252", newline="") as file:
            rows = csv.DictReader(file)
            if missing := {NUMBER, WORD, TAG} - set(rows.fieldnames or ()):
                raise UserError(f"{path}: has no column {min(missing)}; Kaggle's ner_dataset.csv has")
            for row in rows:
                if row[NUMBER] or not sentences:
                    sentences.append([])
                sentences[-1].append((row[WORD], row[TAG]))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; it is Kaggle's, from abhinavwalia95/entity-annotated-corpus") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not encoded as Kaggle's file is; has it been saved anew? Download it again") from None
    return sentences


def main(arguments: Sequence[str] | None = None) -> None:
    """Write sentences.txt and labels.txt of each split."""
    options = parse_arguments(arguments)
    sentences = read_sentences(options.csv)
    for split, (start, stop) in SPLITS.items():
        chosen = sentences[int(start * len(sentences)) : int(stop * len(sentences))]
        (options.data_dir / split).mkdir(parents=True, exist_ok=True)
        for part, name in enumerate(("sentences.txt", "labels.txt")):
            with replacing(options.data_dir / split / name) as file:
                file.writelines(f"{' '.join(pair[part] for pair in sentence)}\n".encode() for sentence in chosen)
        print(f"{options.data_dir / split}: {len(chosen)} sentences")


if __name__ == "__main__":
    run(main)
