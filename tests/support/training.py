"""A run by the engine, in this process."""

import json
from pathlib import Path
from typing import Any

import train


def train_in(folder: Path, params: dict[str, Any]) -> Path:
    """Train with these params in the folder, or go on with what is there; returns the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "params.json").write_text(json.dumps(params))
    train.main(["--model_dir", str(folder)])
    return folder
