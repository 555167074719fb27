"""What the tests share: experiments in temporary folders, and scripts that run in processes of their own."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests run small things, and processes fork
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # to look for a GPU must not touch it: processes fork

import numpy as np
import pytest

from engine.system import STOP_SIGNALS
from tests.support import scripts
from tests.support.scripts import Finished

for number in STOP_SIGNALS:  # `nohup pytest` and `pytest &` in a script would have every child ignore what is tested
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, lambda *_: None)  # as deaf as before, but what is started hears


@pytest.fixture
def experiment(tmp_path: Path) -> Callable[..., Path]:
    """Makes an experiment folder: `experiment(task="tests.projects.old", num_epochs=2)`."""

    def make(name: str = "experiment", /, **params: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "params.json").write_text(json.dumps(params))
        return folder

    return make


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Finished]:
    """Runs a script: `script("train", "--model_dir", folder)`."""

    def run(name: str, *arguments: object, **options: Any) -> Finished:
        return scripts.run(name, *arguments, output=tmp_path, **options)

    return run


@pytest.fixture
def task_package(tmp_path: Path) -> Callable[..., Path]:
    """Writes a task package: `task_package("mine", net="...", data_loader="...")`; returns the folder to find it in."""

    def write(name: str, net: str, data_loader: str) -> Path:
        package = tmp_path / "tasks" / name
        package.mkdir(parents=True)
        (package / "net.py").write_text(net)
        (package / "data_loader.py").write_text(data_loader)
        return package.parent

    return write


@pytest.fixture
def points(experiment: Callable[..., Path]) -> Callable[..., Path]:
    """Makes an experiment on the points: `points("name", num_epochs=3)`."""

    def make(name: str = "experiment", /, **params: Any) -> Path:
        defaults = {"task": "tests.projects.points", "data_dir": "none", "learning_rate": 0.01, "num_epochs": 2}
        return experiment(name, **{**defaults, **params})

    return make


@pytest.fixture
def variant(task_package: Callable[..., Path]) -> Callable[..., Path]:
    """Makes a task package out of the points, with other code added: `variant("mine", net="def loss_fn...")`."""

    def make(name: str, net: str = "", data_loader: str = "") -> Path:
        parts = {"net": net, "data_loader": data_loader}
        both = {part: f"from tests.projects.points.{part} import *\n\n{code}" for part, code in parts.items()}
        return task_package(name, **both)

    return make


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Copies an experiment on the points that is trained: `trained(tmp_path / "experiment")`."""
    folder = tmp_path_factory.mktemp("trained") / "experiment"
    folder.mkdir()
    params = {"task": "tests.projects.points", "data_dir": "none", "learning_rate": 0.01, "num_epochs": 2}
    (folder / "params.json").write_text(json.dumps(params))
    done = scripts.run("train", "--model_dir", folder, output=folder.parent)
    assert done.status == 0, done.stderr

    def copy(target: Path) -> Path:
        return shutil.copytree(folder, target)

    return copy


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in three colours, as `{split}_signs/{label}_*.jpg`, with the file of sizes that an old project reads."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("squares")
    for number, (split, count) in enumerate({"train": 48, "val": 21, "test": 21}.items()):
        generator = np.random.default_rng(number)
        (folder / f"{split}_signs").mkdir()
        for index in range(count):
            pixels = generator.integers(0, 160, size=(16, 16, 3))
            pixels[:, :, index % 3] += 95
            picture = Image.fromarray(pixels.astype(np.uint8))
            picture.save(folder / f"{split}_signs" / f"{index % 3}_picture_{index}.jpg")
    (folder / "dataset_params.json").write_text('{"number_of_classes": 3}')
    return folder
