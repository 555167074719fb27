"""What a task declares is known without importing it."""

import importlib
import sys

import pytest

from engine.experiment.declarations import read_declarations
from engine.hyperparameters import Key
from tests.support.scripts import ROOT

TASK = """
raise RuntimeError("nobody may import this")
from engine import hyperparameters
WIDTH = Key("width", int, 8, "units", low=1, high=64)
OPTIONS = (Key("rate", float, 0.0, "share"), hyperparameters.Key("kind", str, None, "which", choices=tuple(KINDS)))
Key("twice", int, 1, "one")
"""
LAYERS = """
Key("twice", int, 2, "another one")
def layer(params): return params.depth, getattr(params, "learning_rate_d", 0.1), params.dict["fold-name"]
Key(*unknown); Key("made", int, compute(), "here"); Key("set", set, None, "no such kind"); KeyError("rate")
"""
KNOWN = ("model", "examples.signs", "examples.mnist", "examples.cifar10")


@pytest.fixture
def found(task_package, monkeypatch):
    """What is declared by a task with a module in a subpackage, and one that is no Python."""
    path = task_package("declaring", net=TASK, data_loader="")
    (path / "declaring" / "layers").mkdir()
    (path / "declaring" / "layers" / "plain.py").write_text(LAYERS)
    (path / "declaring" / "old.py").write_bytes(b"print 'Python 2'\xff")
    monkeypatch.syspath_prepend(path)
    return read_declarations("declaring")


def test_its_options_are_read_from_its_source(found):
    assert found.keys == {
        "width": Key("width", int, 8, "", low=1, high=64),
        "rate": Key("rate", float, 0.0, ""),
        "kind": Key("kind", str, None, ""),
    }


def test_whatever_it_may_read_is_a_name(found):
    assert {"width", "rate", "kind", "twice", "made", "depth", "learning_rate_d"} <= found.names
    assert "fold-name" not in found.names


@pytest.mark.parametrize("task", ["nowhere", "tests.projects.nowhere", "tests.nowhere.at_all"])
def test_a_task_that_is_not_there_declares_nothing(task):
    assert read_declarations(task) == ({}, set())


@pytest.mark.parametrize("task", [task for task in KNOWN if ROOT.joinpath(*task.split("."), "net.py").is_file()])
def test_it_is_what_an_import_finds(task):
    made = {}
    for module in ("net", "data_loader"):
        module = importlib.import_module(f"{task}.{module}")
        tuples = [value if type(value) is tuple else (value,) for value in vars(module).values()]
        made |= {key.name: key for values in tuples for key in values if isinstance(key, Key)}
    before = set(sys.modules)
    found = read_declarations(task).keys
    assert set(sys.modules) == before
    shared = made.keys() & found.keys()
    assert shared or not made
    assert all(made[name]._replace(meaning="", choices=()) == found[name] for name in shared)
