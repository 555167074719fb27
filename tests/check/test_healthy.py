"""A healthy project is told nothing: those of the examples and of the tests that run on data made here."""

import logging
from pathlib import Path

import pytest

from engine.check import examine
from engine.check.project import Project
from engine.hyperparameters import load_params, read_json
from engine.training import device_for, fetch_batches, load_task
from evaluate import forward
from tests.check.cases import DIGITS, HEALTHY, REGRESSION
from tests.support.scripts import ROOT
from train import choose_optimizer

PROJECTS = {
    "autoencoder": {"net": "wide"},
    "bert_like": {},
    "dict_batches": {},
    "distillation": {"num_hidden": 32, "learning_rate": 0.03},
    "frozen_backbone": {"freeze": True, "backbone_rate": 0.1, "decay_per": "epoch"},
    "multi_label": {},
    "multi_task": {"num_hidden": 32, "size_weight": 4.0},
    "noisy": {"loader": "resident"},
    "points": {},
    "rmse_regression": {"validation_name": "val"},
    "segmentation": {"num_channels": 8, "learning_rate": 0.02},
    "stream": {"num_hours": 400},
    "super_resolution": {"num_channels": 16, "learning_rate": 0.02},
    "tagging": {"num_hidden": 24},
    "triplet": {"embedding_size": 4, "margin": 2.0, "threshold": 1.5},
}
EXAMPLES = {"ner": "tiny", "regression": "base"}  # the others need data that are not made here
DEFAULTS = {"data_dir": "none", "device": "cpu", "threads": 1, "batch_size": 16, "learning_rate": 0.01}


def project_of(values):
    """A task as `train.py --check` examines it."""
    logging.disable(logging.WARNING)
    params = load_params("params.json", {**DEFAULTS, **values})
    device, task = device_for(params), load_task(params.task, params)
    loaders = fetch_batches(task, ["train", "val"], params, device)
    project = Project(task, params, device, loaders, forward, choose_optimizer, seconds=30.0)
    project.gather()
    logging.disable(logging.NOTSET)
    return project


def told(project):
    """What is said of a project that is no praise."""
    return {name: finding for name, finding in examine(project) if finding.verdict in ("failed", "warned")}


@pytest.mark.parametrize("name", PROJECTS)
def test_a_project_of_the_tests_is_told_nothing(name):
    assert told(project_of({"task": f"tests.projects.{name}", **PROJECTS[name]})) == {}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_told_nothing(name):
    params = Path(f"examples/{name}/experiments/{EXAMPLES[name]}/params.json")
    if not (ROOT / params).is_file():
        pytest.skip("the examples were deleted")
    assert told(project_of({**read_json(ROOT / params), "threads": 1})) == {}


def test_a_language_model_is_told_nothing(tmp_path, monkeypatch):
    params = Path("examples/language/experiments/small/params.json")
    if not (ROOT / params).is_file():
        pytest.skip("the examples were deleted")
    monkeypatch.chdir(tmp_path)  # where its text is made
    smaller = {"width": 32, "num_layers": 2, "block_size": 16, "learning_rate": 0.003, "threads": 1}
    project = project_of({**read_json(ROOT / params), **smaller})
    found = dict(examine(project))
    assert {name: finding for name, finding in found.items() if finding.verdict in ("failed", "warned")} == {}
    assert found["outputs do not know labels"].verdict == "passed"  # which `step` makes of another type


@pytest.mark.parametrize("case", [HEALTHY, REGRESSION, DIGITS], ids=lambda case: case.name)
def test_what_the_faults_are_made_from_is_told_nothing(case):
    assert told(case.project()) == {}
