"""Pictures among the predictions: kept in a folder, each by the name of what it is of."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from engine.errors import DiskError
from engine.training.predictions import Columns


class Album:
    """The folder that `--out` names, if it names one; without it pictures are left out.

    >>> Album("masks/").kept({"mask": [picture]}, ["photos/cat.jpg"])
    {'mask': ['masks/cat.png']}
    """

    def __init__(self, out: str | None) -> None:
        is_folder = out is not None and not out.endswith((".csv", ".jsonl"))
        self.folder = Path(out) if out is not None and is_folder else None
        self.table = None if self.folder is None else str(self.folder / "predictions.csv")
        self._taken: set[str] = set()

    def kept(self, columns: Columns, names: Sequence[str]) -> Columns:
        """The columns, in which the names of files stand for the pictures, which are written."""
        return {key: kept for key, values in columns.items() if (kept := self._kept(key, values, names)) is not None}

    def _kept(self, key: str, values: Sequence[object], names: Sequence[str]) -> Sequence[object] | None:
        pictures = [value for value in values if isinstance(value, Image.Image)]
        if not pictures:
            return values
        if self.folder is None:
            return None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            paths = [self.folder / self._free(Path(name).stem) for name in names]
            for path, picture in zip(paths, pictures, strict=True):
                picture.save(path)
        except OSError as error:
            raise DiskError(f"{self.folder}: pictures cannot be written there ({error.strerror or error})") from None
        return [str(path) for path in paths]

    def _free(self, stem: str) -> str:
        """A name for a picture; where one is called the same, as from another folder, the later one has a number."""
        name, number = f"{stem}.png", 1
        while name in self._taken:
            number += 1
            name = f"{stem}_{number}.png"
        self._taken.add(name)
        return name
