"""What a run has left in its folder."""

import json
from pathlib import Path
from typing import Any

import torch


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below the folder with its content, but for the lock that a killed run leaves."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def read(folder: Path, name: str) -> Any:
    """A JSON file of the folder."""
    return json.loads((folder / name).read_text())


def history(folder: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, without what depends on clock and machine."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    of_the_machine = ("seconds", "examples_per_second", "peak_memory")
    return [{key: row[key] for key in row if key not in of_the_machine} for row in rows]


def checkpoint(folder: Path, name: str = "last") -> dict[str, Any]:
    """A checkpoint of the folder."""
    return torch.load(folder / f"{name}.pth.tar", weights_only=True)


def same(one: Any, other: Any) -> bool:
    """Whether two nested values are equal, tensors to the last bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return one == other


def same_results(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same weights, optimizer and scores, times left out."""
    pairs = [(checkpoint(one, name), checkpoint(other, name)) for name in ("best", "last")]
    for pair in pairs:
        for content in pair:
            del content["seconds"], content["training_seconds"], content["run"]
    return all(same(*pair) for pair in pairs) and history(one) == history(other)
