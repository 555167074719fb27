"""The tree: imports run one way, what answers at once never imports torch, and a project may replace the task."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.hyperparameters import DEFAULTS
from tests.support.made_runs import make_run, write
from tests.support.scripts import ROOT

NAMES = ("train", "evaluate", "predict", "search_hyperparams", "synthesize_results")
SCRIPTS = [ROOT / f"{name}.py" for name in NAMES if (ROOT / f"{name}.py").is_file()]
SHIPPED = '"""Batches of images and labels out of a folder of images."""'
loading = ROOT / "model" / "data_loader.py"
is_shipped = loading.is_file() and loading.read_text(encoding="utf-8").startswith(SHIPPED)  # else it is the user's
ZONES = ["engine", "examples", *(["model"] if is_shipped else [])]
MODULES = [*SCRIPTS, ROOT / "utils.py", *(path for zone in ZONES for path in sorted((ROOT / zone).rglob("*.py")))]
SCRIPT_OF_SCRIPT = {"train": {"evaluate"}, "search_hyperparams": {"train"}}
GROUND = {
    *("errors", "files", "hosting", "hyperparameters", "launcher"),
    *("nested", "randomness", "seeds", "system", "wording"),
}
ROOMS = {  # which other rooms a room may import; any of them the ground, which imports itself alone
    "data": set(),
    "experiment": set(),
    "training": {"data", "experiment"},
    "search": {"data", "experiment"},
    "comparison": {"experiment"},
    "report": {"experiment", "comparison"},
    "check": {"data", "experiment", "training"},
}
LIGHT = [
    "errors",
    "files",
    "hosting",
    "hyperparameters",
    "launcher",
    "seeds",
    "system",
    "wording",
    "experiment",
    "search",
    "comparison",
    "report",
]
BY_NAME = {
    "engine.search.pruning",
    "engine.search.sampling",
    "engine.search.sharing",
    "engine.training.classification",
    "engine.training.regression",
}  # slow to import


def name_of(path):
    """`engine.data.feed` for engine/data/feed.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree):
    """The modules that are imported anywhere in a module, by absolute name; `from a import b` gives a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


OWN = {name_of(path): path for path in MODULES}
IMPORTS = {name: set(imported(ast.parse(path.read_text(encoding="utf-8")))) & OWN.keys() for name, path in OWN.items()}


def allowed(name, other):
    """Whether the module `name` may import the module `other`."""
    zone, target = name.split(".")[0], other.split(".")[0]
    if zone == "engine":
        return target == "engine" and (room_of(other) in (None, room_of(name)) or reaches(room_of(name), other))
    if zone in ("model", "examples"):
        package = name.split(".")[: 1 if zone == "model" else 2]
        return target in ("engine", "utils") or other.split(".")[: len(package)] == package
    if zone == "utils":
        return target == "engine"
    return target in ("engine", "utils") or target in SCRIPT_OF_SCRIPT.get(zone, ())


def room_of(name):
    """`data` for engine.data.feed; None for the ground."""
    room = name.split(".")[1:2]
    return room[0] if room and room[0] in ROOMS else None


def reaches(room, other):
    """Whether a module of the room `room`, or of the ground where that is None, may import `other` of another room."""
    return room is not None and room_of(other) in ROOMS[room]


@pytest.mark.parametrize("name", OWN)
def test_imports_run_one_way(name):
    assert [other for other in sorted(IMPORTS[name]) if not allowed(name, other)] == []


def test_imports_make_no_circle():
    def walk(name, way):
        assert name not in way, " -> ".join([*way, name])
        if name not in done:
            for other in IMPORTS[name] - {name}:
                walk(other, [*way, name])
            done.add(name)

    done = set()
    for name in IMPORTS:
        walk(name, [])


@pytest.mark.parametrize("name", OWN)
def test_each_module_opens_with_what_it_is_for(name):
    sentence = ast.get_docstring(ast.parse(OWN[name].read_text(encoding="utf-8")))
    assert sentence
    assert len(sentence.split()) >= 3


def test_the_engine_is_the_ground_and_the_rooms():
    there = [
        path for path in (ROOT / "engine").iterdir() if path.name not in ("__pycache__", "__init__.py", "README.md")
    ]
    assert {path.stem for path in there if path.is_file()} == GROUND
    assert {path.name for path in there if path.is_dir()} == ROOMS.keys()


@pytest.mark.parametrize("name", OWN)
def test_a_room_is_entered_by_its_door(name):
    doors = {f"engine.{room}" for room in ROOMS}
    inside = f"engine.{room_of(name)}."
    past = [other for other in IMPORTS[name] if other.rpartition(".")[0] in doors and not other.startswith(inside)]
    assert set(past) <= BY_NAME


def handed(room):
    """The names that a room has brought to its door."""
    door = ast.parse(OWN[f"engine.{room}"].read_text(encoding="utf-8"))
    return {a.asname or a.name for node in door.body if isinstance(node, ast.ImportFrom) for a in node.names}


@pytest.mark.parametrize("room", ROOMS)
def test_a_door_says_what_it_hands_out(room):
    names = ast.parse(OWN[f"engine.{room}"].read_text(encoding="utf-8"))
    stated = [node.value for node in names.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"]
    assert room == "report" or {element.value for element in stated[0].elts} == handed(room)


def taken(room, path):
    """The names that a module takes out of a room: `from engine.data import Feed`, or `training.load_task`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == f"engine.{room}":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == room:
            yield node.attr


@pytest.mark.skipif(not (is_shipped and (ROOT / "benchmarks").is_dir()), reason="some names are for what was deleted")
@pytest.mark.parametrize("room", ROOMS)
def test_a_door_hands_out_what_is_used_outside_and_nothing_else(room):
    outside = [path for name, path in OWN.items() if room_of(name) != room]
    used = {name for path in [*outside, *(ROOT / "benchmarks").rglob("*.py")] for name in taken(room, path)}
    promised = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "task.md").read_text(encoding="utf-8")))
    assert room == "report" or handed(room) <= used | promised


def python(*words, cwd=ROOT):
    """Runs Python in a fresh process, in which whatever imports torch fails at once."""
    guard = "import sys, runpy; sys.modules['torch'] = None; sys.path.insert(0, ''); exec(sys.argv.pop(1))"
    return subprocess.run([sys.executable, "-c", guard, *words], cwd=cwd, capture_output=True, text=True, timeout=60)


AS_SCRIPT = "sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help_never_imports_torch(script):
    done = python(AS_SCRIPT, script.name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
    assert "--" in done.stdout


@pytest.mark.parametrize(
    "script", [path for path in SCRIPTS if path.stem in ("train", "evaluate")], ids=lambda p: p.stem
)
@pytest.mark.parametrize("text", ["{", '{"batch_size": "many"}', '{"learning_rate": -1}', None], ids=range(4))
def test_an_error_in_the_params_never_imports_torch(script, text, tmp_path):
    if text is not None:
        (tmp_path / "params.json").write_text(text)
    done = python(AS_SCRIPT, script.name, "--model_dir", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_finished_experiment_never_imports_torch(tmp_path):
    params = {"task": "tests.projects.points", "data_dir": "none", "num_epochs": 3}
    make_run(tmp_path / "run", params=params)
    write(tmp_path / "run", "run.json", {"params": {**DEFAULTS, **params}, "data": None})
    done = python(AS_SCRIPT, "train.py", "--model_dir", str(tmp_path / "run"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "is finished" in done.stdout


@pytest.mark.parametrize("module", LIGHT)
def test_what_reads_experiment_folders_never_imports_torch(module):
    done = python(f"import engine.{module}")
    assert done.returncode == 0, done.stderr


def copy_of_the_tree(target):
    """All that git would carry of the root, but for data and results."""
    skipped = shutil.ignore_patterns("__pycache__", ".*_cache", "*.pth.tar", "tensorboard", ".old", ".cache", ".git")
    target.mkdir(exist_ok=True)
    for path in ROOT.iterdir():
        if path.name in {"engine", "model", "examples", "benchmarks", "tests", "experiments", "docs"}:
            shutil.copytree(path, target / path.name, ignore=skipped)
        elif path.is_file():
            shutil.copy(path, target / path.name)
    return target


QUICK = (
    "imports or opens_with or (help_never and train) or test_hyperparameters or test_default_task "
    "or files_of_a_run or evaluation_leaves or one_batch_by_heart"
)


@pytest.mark.processes
@pytest.mark.skipif("TESTS_OF_A_COPY" in os.environ, reason="this is the copy")
def test_with_another_task_and_without_examples_and_benchmarks_the_tests_pass(tmp_path):
    tree = copy_of_the_tree(tmp_path / "tree")
    for name in ("model", "examples", "benchmarks"):
        shutil.rmtree(tree / name, ignore_errors=True)
    shutil.copytree(tree / "tests" / "projects" / "points", tree / "model")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", QUICK],
        cwd=tree,
        env={**os.environ, "TESTS_OF_A_COPY": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


TESTS = sorted(path for path in Path(__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_no_test_needs_what_a_project_may_delete(path):
    source = path.read_text(encoding="utf-8")
    top = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    needed = {name.split(".")[0] for name in imported(ast.Module(top, []))} & {"examples", "benchmarks", "model"}
    assert not needed or "allow_module_level=True" in source, f"{needed} may not be there: look first, or skip"
