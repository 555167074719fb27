"""W&B and MLflow themselves are told what a run's own folder says: once each, however often the run is stopped."""

import functools
import importlib.util
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from engine.experiment import read_entries
from engine.hyperparameters import DEFAULTS
from tests.support import faults
from tests.support.folders import contents, read
from tests.support.scripts import ROOT

has_wandb, has_mlflow, has_flask = (importlib.util.find_spec(name) for name in ("wandb", "mlflow", "flask"))
wandb = pytest.mark.skipif(not has_wandb, reason="W&B is not installed: pip install -r requirements-trackers.txt")
mlflow = pytest.mark.skipif(not has_mlflow, reason="MLflow is not installed: pip install -r requirements-trackers.txt")
server = pytest.mark.skipif(not (has_mlflow and has_flask), reason="MLflow's server is not: pip install mlflow")
service = pytest.mark.processes
posix = pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by signals")
FILES = {"params.json", "run.json", "data.json", "metrics.jsonl", "train.log"}
FILES |= {f"metrics_val_{which}_weights.json" for which in ("best", "last")}


@pytest.fixture
def train(script):
    """Trains a folder with these environment variables: `train(folder, WANDB_MODE="offline")`."""

    def run(folder, *words, status=0, before=faults.nothing, **environment):
        act = functools.partial(set_environment, environment, before)
        done = script("train", "--model_dir", folder, *words, before=act)
        assert done.status == status, done.stderr
        return done

    return run


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def points_of(folder):
    """The numbers of metrics.jsonl as points by name."""
    rows = rows_of(folder)
    return {key: [(row["epoch"], row[key]) for row in rows] for key in rows[0]}


def set_environment(variables, then):
    os.environ.update(variables)
    then()


def hide_packages():
    sys.modules["wandb"] = sys.modules["mlflow"] = None


# None, or none that is there


def test_without_a_tracker_none_is_imported(points, train):
    folder = points()
    train(folder, before=hide_packages)
    assert "tracker" not in read(folder, "run.json")


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_is_one_line_before_anything(name, points, train):
    folder = points(tracker=name)
    done = train(folder, status=2, before=hide_packages)
    assert done.stderr == f'error: "tracker": "{name}" is not installed: pip install -r requirements-trackers.txt\n'
    assert done.stdout == ""
    assert set(contents(folder)) == {"params.json"}


def test_a_search_is_told_before_its_first_trial(points, script):
    parent = points("search", tracker="wandb")
    done = script("search_hyperparams", "--parent_dir", parent, before=hide_packages)
    assert (done.status, done.stderr.count("\n")) == (2, 1)
    assert '"wandb" is not installed' in done.stderr
    assert not list(parent.glob("*/status.json"))


def leave_a_folder(name):
    """What W&B leaves in the folder from which it was used looks like a package to Python."""
    sys.path.insert(0, name)
    sys.modules.pop("wandb", None)
    sys.path[:] = [path for path in sys.path if not Path(path, "wandb", "__init__.py").is_file()]


def test_a_folder_of_its_name_is_no_package(points, train, tmp_path):
    (tmp_path / "wandb").mkdir()
    done = train(points(tracker="wandb"), status=2, before=functools.partial(leave_a_folder, str(tmp_path)))
    assert '"wandb" is not installed' in done.stderr


def test_what_wandb_keeps_in_an_experiment_is_no_other_experiment(trained, tmp_path):
    folder = trained(tmp_path / "all" / "one")
    copies = folder / "wandb" / "offline-run-1" / "files"
    copies.mkdir(parents=True)
    (copies / "params.json").write_text("{}")
    assert [entry.name for entry in read_entries(tmp_path / "all")] == ["one"]


def test_what_is_finished_needs_no_tracker(points, train):
    folder = points()
    train(folder)
    (folder / "params.json").write_text(json.dumps(read(folder, "params.json") | {"tracker": "mlflow"}))
    assert "is finished" in train(folder, before=hide_packages).stdout


# W&B, offline


@wandb
@service
class TestWandb:
    @pytest.fixture
    def told(self, points, train):
        """Trains with W&B offline; gives the folder and what each run there was told."""
        from tests.support.trackers import wandb_told

        def run(folder, *words, **options):
            train(folder, *words, **{"WANDB_MODE": "offline", "WANDB_SILENT": "true", **options})
            return wandb_told(folder)

        return run

    def test_it_is_told_params_lines_scores_and_files(self, points, told):
        folder = points(tracker="wandb", num_epochs=3, own=[1, "two"])
        [run] = told(folder)
        assert (run["project"], run["group"], run["exit"]) == (ROOT.name, "", 0)
        assert run["name"] == os.path.relpath(folder, ROOT)
        assert run["id"] == read(folder, "run.json")["tracker"]["run"]
        params = {key: value for key, value in run["config"].items() if key != "_wandb"}
        assert params == DEFAULTS | read(folder, "params.json")
        assert run["rows"] == rows_of(folder)
        best = read(folder, "metrics_val_best_weights.json")
        assert {key: run["summary"][f"best/{key}"] for key in best} == best
        assert {path.name for path in run["files"].iterdir()} >= FILES
        for name in FILES:
            assert (run["files"] / name).read_bytes() == (folder / name).read_bytes()
            assert not (run["files"] / name).is_symlink()  # it is sent when the experiment may have moved

    @posix
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_a_stopped_run_goes_on_as_the_same_with_each_line_once(self, number, points, told):
        folder = points(tracker="wandb", num_epochs=4, batch_size=50)
        stop = functools.partial(faults.act_at_batch, 11, functools.partial(faults.signal_self, number))
        status = -number if number == signal.SIGKILL else 128 + number
        [begun] = told(folder, status=status, before=stop)
        runs = told(folder)
        assert runs[-1]["id"] == read(folder, "run.json")["tracker"]["run"]
        assert begun.get("id", runs[-1]["id"]) == runs[-1]["id"]
        assert [row for run in runs for row in run["rows"]] == rows_of(folder)
        assert [row["epoch"] for row in rows_of(folder)] == [1, 2, 3, 4]

    def test_a_run_that_starts_over_is_another_one(self, points, told):
        folder = points(tracker="wandb")
        [first] = told(folder)
        [second] = told(folder, "--fresh")
        assert first["id"] != second["id"]
        assert second["rows"] == rows_of(folder)

    def test_the_trials_of_a_search_are_grouped(self, points, told):
        parent = points("search")
        trial = points("search/learning_rate=0.1", tracker="wandb", learning_rate=0.1)
        [run] = told(trial)
        assert (run["group"], run["name"]) == (os.path.relpath(parent, ROOT), "learning_rate=0.1")

    def test_a_failed_run_is_shown_as_one(self, points, told):
        folder = points(tracker="wandb", learning_rate=1e30, optimizer="SGD", num_epochs=5)
        assert told(folder, status=2)[0]["exit"] == 1

    def test_where_nobody_has_logged_in_it_is_one_line_and_nothing_is_left(self, points, train, tmp_path):
        folder = points(tracker="wandb")
        done = train(folder, status=2, WANDB_MODE="online", HOME=str(tmp_path / "home"), NETRC=str(tmp_path / "netrc"))
        assert done.stderr.splitlines()[-1].startswith("error: wandb: No API key configured")
        assert "WANDB_MODE=offline" in done.stderr.splitlines()[-1]
        assert set(contents(folder)) == {"params.json"}

    def test_starting_over_moves_nothing_before_it_is_known_to_take_the_run(self, points, train, tmp_path):
        folder = points()
        train(folder)
        before = contents(folder)
        settings = {"tracker": "wandb", **read(folder, "params.json")}
        (folder / "params.json").write_text(json.dumps(settings))
        train(folder, "--fresh", status=2, WANDB_MODE="online", HOME=str(tmp_path), NETRC=str(tmp_path / "netrc"))
        assert contents(folder).keys() == before.keys()


# MLflow


@mlflow
@service
class TestMlflow:
    @pytest.fixture(scope="class")
    def tables(self, tmp_path_factory):
        """A store that nothing is in."""
        from tests.support.trackers import new_store

        file = tmp_path_factory.mktemp("store") / "mlflow.db"
        new_store(file)
        return file

    @pytest.fixture
    def store(self, tables, tmp_path):
        """The address of a store of this test's own."""
        return f"sqlite:///{shutil.copy(tables, tmp_path)}"

    @pytest.fixture
    def told(self, train, store, tmp_path, monkeypatch):
        """Trains with MLflow's own store in a file; gives what each run there was told."""
        from tests.support.trackers import mlflow_runs

        def run(folder, *words, **options):
            train(folder, *words, **{"MLFLOW_TRACKING_URI": store, **options})
            return mlflow_runs(store)

        monkeypatch.chdir(tmp_path)
        return run

    def test_it_is_told_params_lines_scores_and_files(self, points, told):
        folder = points(tracker="mlflow", num_epochs=3, own=[1, "two"])
        [run] = told(folder)
        assert (run["group"], run["name"]) == (ROOT.name, os.path.relpath(folder, ROOT))
        assert run["id"] == read(folder, "run.json")["tracker"]["run"]
        assert run["status"] == "FINISHED"
        params = DEFAULTS | read(folder, "params.json")
        assert run["params"] == {
            key: value if isinstance(value, str) else json.dumps(value) for key, value in params.items()
        }
        best = read(folder, "metrics_val_best_weights.json")
        assert run["points"] == points_of(folder) | {f"best/{key}": [(0, best[key])] for key in best}
        assert set(run["files"]) == FILES
        for name in FILES:
            assert Path(run["files"][name]).read_bytes() == (folder / name).read_bytes()
        commit = read(folder, "run.json")["git"]["commit"]
        assert run["tags"].get("mlflow.source.git.commit") == commit

    @posix
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_a_stopped_run_goes_on_as_the_same_with_each_line_once(self, number, points, told):
        folder = points(tracker="mlflow", num_epochs=4, batch_size=50)
        stop = functools.partial(faults.act_at_batch, 11, functools.partial(faults.signal_self, number))
        status = -number if number == signal.SIGKILL else 128 + number
        [begun] = told(folder, status=status, before=stop)
        assert begun["status"] == ("RUNNING" if number == signal.SIGKILL else "KILLED")
        assert begun["points"]["epoch"] == [(1, 1), (2, 2)]
        (folder / "params.json").write_text(json.dumps(read(folder, "params.json") | {"num_workers": 1}))
        [run] = told(folder)
        assert (run["id"], run["status"]) == (begun["id"], "FINISHED")
        assert {key: run["points"][key] for key in points_of(folder)} == points_of(folder)
        assert [epoch for epoch, _ in run["points"]["val_loss"]] == [1, 2, 3, 4]

    def test_a_run_that_starts_over_is_another_one(self, points, told):
        folder = points(tracker="mlflow")
        [first] = told(folder)
        before, after = told(folder, "--fresh")
        assert before["id"] == first["id"] != after["id"]

    def test_a_tracker_that_is_named_later_is_told_all(self, points, told):
        folder = points(num_epochs=4, batch_size=50)
        stop = functools.partial(faults.act_at_batch, 11, functools.partial(faults.signal_self, signal.SIGTERM))
        assert told(folder, status=128 + signal.SIGTERM, before=stop) == []
        (folder / "params.json").write_text(json.dumps(read(folder, "params.json") | {"tracker": "mlflow"}))
        [run] = told(folder)
        assert run["points"]["val_loss"] == points_of(folder)["val_loss"]

    def test_the_trials_of_a_search_are_an_experiment_of_their_own(self, points, tmp_path, script):
        from tests.support.trackers import mlflow_runs

        parent = points("search", tracker="mlflow", num_epochs=1)
        (parent / "search.json").write_text('{"space": {"learning_rate": [0.1, 0.01]}}')
        store = f"sqlite:///{tmp_path}/mlflow.db"
        act = functools.partial(set_environment, {"MLFLOW_TRACKING_URI": store}, faults.fork_workers)
        done = script("search_hyperparams", "--parent_dir", parent, "--num_workers", 2, before=act)
        assert done.status == 0, done.stderr
        runs = mlflow_runs(store)
        group = f"{ROOT.name}/{os.path.relpath(parent, ROOT)}"
        assert sorted((run["group"], run["name"], run["status"]) for run in runs) == [
            (group, f"learning_rate={rate}", "FINISHED") for rate in (0.01, 0.1)
        ]

    def test_names_and_values_that_it_does_not_take_are_made_so_that_it_does(self, points, variant, script, store):
        from tests.support.trackers import mlflow_runs

        net = "metrics = {'of class=[1]': lambda o, l: float((l == 1).mean()), 'never': lambda o, l: float('nan')}"
        folder = points(task="odd", tracker="mlflow", **{"a=b": 1, "long": "x" * 7000})
        act = functools.partial(set_environment, {"MLFLOW_TRACKING_URI": store}, faults.nothing)
        done = script("train", "--model_dir", folder, path=variant("odd", net=net), before=act)
        assert done.status == 0, done.stderr
        [run] = mlflow_runs(store)
        assert run["params"]["a_b"] == "1"
        assert len(run["points"]["val_of class__1_"]) == 2
        assert "val_never" not in run["points"]


@server
@service
class TestServer:
    @pytest.fixture(scope="class")
    def server(self, tmp_path_factory):
        from tests.support.trackers import mlflow_server

        with mlflow_server(tmp_path_factory.mktemp("server")) as address:
            yield address

    @pytest.fixture
    def line(self, server):
        from tests.support.trackers import Line

        one = Line(server)
        yield one
        one.cut()

    def test_the_server_is_told_over_the_network(self, points, train, server):
        from tests.support.trackers import mlflow_runs

        folder = points(tracker="mlflow", num_epochs=3)
        train(folder, MLFLOW_TRACKING_URI=server, MLFLOW_EXPERIMENT_NAME="plain")
        [run] = [run for run in mlflow_runs(server) if run["group"] == "plain"]
        assert run["points"].items() >= points_of(folder).items()
        assert set(run["files"]) == FILES

    def test_one_that_cannot_be_reached_is_one_line_and_nothing_is_left(self, points, train, line):
        line.cut()
        folder = points(tracker="mlflow")
        done = train(folder, status=2, MLFLOW_TRACKING_URI=line.address)
        last = done.stderr.splitlines()[-1]
        assert last.startswith(f"error: mlflow: API request to {line.address}")
        assert set(contents(folder)) == {"params.json"}

    @posix
    def test_one_that_goes_away_does_not_end_the_run_and_is_told_later_what_it_missed(
        self, points, train, line, server
    ):
        from tests.support.trackers import mlflow_runs

        folder = points(tracker="mlflow", num_epochs=5, batch_size=50)
        settings = {"MLFLOW_TRACKING_URI": line.address, "MLFLOW_EXPERIMENT_NAME": "cut"}
        cut = functools.partial(faults.act_at_batch, 6, functools.partial(os.kill, line.process.pid, signal.SIGKILL))
        stop = functools.partial(faults.act_at_batch, 18, functools.partial(faults.signal_self, signal.SIGTERM))
        train(folder, status=128 + signal.SIGTERM, before=functools.partial(faults.both, cut, stop), **settings)
        assert (folder / "train.log").read_text().count("mlflow takes nothing just now") == 1
        line.process.join()
        back = functools.partial(faults.act_at_batch, 2, functools.partial(faults.signal_self, signal.SIGTERM))
        train(folder, status=128 + signal.SIGTERM, before=back, **settings)  # it goes on without its tracker, too
        line.mend()
        train(folder, **settings)
        [run] = [run for run in mlflow_runs(server) if run["group"] == "cut"]
        assert run["points"].items() >= points_of(folder).items()
        assert [epoch for epoch, _ in run["points"]["val_loss"]] == [1, 2, 3, 4, 5]
        assert run["status"] == "FINISHED"
