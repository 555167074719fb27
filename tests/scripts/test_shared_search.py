"""Several machines carry out one search by way of a database; each has a folder of its own, or all have one."""

import functools
import json
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest

from tests.support import faults, scripts
from tests.support.folders import history, read, same_results
from tests.support.scripts import ROOT
from tests.support.services import free_port, missing_for_postgres, postgres
from tests.support.waiting import wait_for

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kills whole families of processes"),
]

BASE = {"task": "tests.projects.points", "data_dir": "none", "num_epochs": 2, "learning_rate": 0.01}
needs_postgres = [
    pytest.mark.processes,
    pytest.mark.skipif(missing_for_postgres() is not None, reason=str(missing_for_postgres())),
]


@pytest.fixture(scope="module")
def server():
    with postgres() as running:
        yield running


@pytest.fixture
def database(request, tmp_path):
    """The URL of an empty database: of a file; of a PostgreSQL where a test asks for it by `in_postgres`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{tmp_path}/study.db"
    url = request.getfixturevalue("server").url
    for name in optuna.get_all_study_names(url):
        optuna.delete_study(study_name=name, storage=url)
    return url


in_postgres = pytest.mark.parametrize("database", [pytest.param("postgres", marks=needs_postgres)], indirect=True)


class Machine:
    """A machine of its own as far as its disk goes: where it works, there is a folder `search`."""

    def __init__(self, folder, settings, **params):
        self.folder = folder
        self.parent = folder / "search"
        self.parent.mkdir(parents=True)
        (self.parent / "params.json").write_text(json.dumps(BASE | params))
        (self.parent / "search.json").write_text(json.dumps(settings))

    def start(self, url, *words, before=faults.nothing, output=None):
        before = functools.partial(faults.both, faults.fork_workers, before)
        before = functools.partial(faults.both, faults.lose_machines_soon, before)
        output = output or self.folder
        output.mkdir(exist_ok=True)
        storage = ("--storage", url) if url else ()
        return scripts.start(
            "search_hyperparams", "--parent_dir", "search", *storage, "--num_workers", 1, *words,
            cwd=self.folder, path=ROOT, before=before, output=output,
        )  # fmt: skip

    def search(self, url, *words, status=0, **options):
        process = self.start(url, *words, **options)
        scripts.wait_for_end(process)
        assert process.exitcode == status, self.said()
        return self.said()

    def said(self):
        return (self.folder / "stdout").read_text() + (self.folder / "stderr").read_text()

    @property
    def states(self):
        return {
            path.parent.name: read(path.parent, "status.json")["state"] for path in self.parent.glob("*/status.json")
        }

    @property
    def trained(self):
        """The trials that this machine itself has begun."""
        return {path.parent.name for path in self.parent.glob("*/train.log")}


def search_at_once(url, *machines):
    """Have all of them search, and wait for their ends."""
    processes = [machine.start(url) for machine in machines]
    for process in processes:
        scripts.wait_for_end(process)
    assert [process.exitcode for process in processes] == [0] * len(machines), [one.said() for one in machines]


def study(url):
    return optuna.load_study(study_name="search", storage=url)


THREE = {"space": {"learning_rate": [0.001, 0.01, 0.1]}}


@pytest.fixture
def single(tmp_path):
    """The same search by one machine alone, without a database."""

    def run(settings, **params):
        machine = Machine(tmp_path / "single", settings, **params)
        machine.search(None)
        return machine

    return run


def test_what_one_machine_has_done_another_knows_and_does_not_do_again(tmp_path, database, single):
    first, second = (Machine(tmp_path / name, THREE) for name in ("first", "second"))
    first.search(database)
    assert len(first.trained) == 3
    said = second.search(database)
    assert second.trained == set()
    assert second.states == first.states == dict.fromkeys(first.states, "finished")
    undisturbed = single(THREE)
    for machine in (first, second):
        best = read(machine.parent, "best.json")
        assert best == read(undisturbed.parent, "best.json")
        for name in machine.states:
            assert history(machine.parent / name) == history(undisturbed.parent / name)
    assert "its checkpoints are not here, but on " in said
    assert [one.state.name for one in study(database).trials] == ["COMPLETE"] * 3
    assert study(database).best_value == read(first.parent, "best.json")["score"]


@in_postgres
def test_two_at_once_share_out_the_trials(tmp_path, database):
    machines = [Machine(tmp_path / name, THREE, num_epochs=6) for name in ("first", "second")]
    search_at_once(database, *machines)
    first, second = machines
    assert first.trained | second.trained == set(first.states) == set(second.states)
    assert not first.trained & second.trained
    assert set(first.states.values()) == set(second.states.values()) == {"finished"}
    assert read(first.parent, "best.json") == read(second.parent, "best.json")


@in_postgres
@pytest.mark.parametrize("shared", [False, True], ids=["disks of their own", "a shared disk"])
def test_a_machine_that_dies_costs_its_unfinished_epochs_alone(tmp_path, database, single, shared):
    params = {"num_epochs": 40}
    first = Machine(tmp_path / "first", THREE, **params)
    second = first if shared else Machine(tmp_path / "second", THREE, **params)
    doomed = first.start(database, output=tmp_path / "doomed")
    wait_for(lambda: len(list(first.parent.glob("*/last.pth.tar"))) >= 2)  # its second trial is under way
    under_way = [name for name, state in first.states.items() if state == "running"]
    done = {name for name, state in first.states.items() if state == "finished"}
    faults.kill_family(doomed.pid)
    scripts.wait_for_end(doomed)
    said = second.search(database)
    assert len(under_way) == len(done) == 1
    assert set(second.states.values()) == {"finished"}
    assert len(second.states) == 3
    undisturbed = single(THREE, **params)
    assert read(second.parent, "best.json")["score"] == read(undisturbed.parent, "best.json")["score"]
    for name in second.states:
        assert history(second.parent / name) == history(undisturbed.parent / name)
    assert Counter(one.state.name for one in study(database).trials) == {"COMPLETE": 3, "FAIL": 1}
    if shared:
        assert "Going on after epoch" in (second.parent / under_way[0] / "train.log").read_text()
        assert all(same_results(second.parent / name, undisturbed.parent / name) for name in second.states)
    else:
        assert second.trained == set(second.states) - done
    assert "Best of 3 finished configurations" in said


@in_postgres
def test_one_that_is_stopped_leaves_its_trial_to_the_others_at_once(tmp_path, database):
    first, second = (Machine(tmp_path / name, {"space": {"learning_rate": [0.01]}}, num_epochs=80) for name in "ab")
    stop = functools.partial(faults.both, functools.partial(first_stop, tmp_path), faults.nothing)
    said = first.search(database.replace("//test@", "//test:secret@"), before=stop, status=143)
    again = said.split("Next: go on")[1]
    assert f"--storage '{database.replace('//test@', '//test:***@')}'" in again
    assert "with the password in the place of ***" in again
    assert "secret" not in said
    assert [one.state.name for one in study(database).trials] == ["WAITING"]
    second.search(database)
    assert set(second.states.values()) == {"finished"}


def first_stop(folder):
    """Have the search be stopped when its trial has a checkpoint."""
    import os
    import signal
    import threading

    def watch():
        while not list((folder / "a" / "search").glob("*/last.pth.tar")):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def test_pruning_sees_what_others_have_trained(tmp_path, database):
    first = Machine(tmp_path / "first", {"space": {"learning_rate": [0.03]}, "pruning": "halving"}, num_epochs=9)
    first.search(database)
    space = {"space": {"learning_rate": [1e-6, 0.03]}, "pruning": "halving"}
    second = Machine(tmp_path / "second", space, num_epochs=9)
    second.search(database)
    assert second.states == {"learning_rate=1e-06": "pruned", "learning_rate=0.03": "finished"}
    assert second.trained == {"learning_rate=1e-06"}
    assert sorted(one.state.name for one in study(database).trials) == ["COMPLETE", "PRUNED"]


@in_postgres
@pytest.mark.parametrize("space", [{"num_hidden": [2, 4, 8, 16]}, {"learning_rate": {"min": 1e-3, "max": 1e-1}}])
def test_suggestions_of_two_machines_are_as_many_as_were_asked_for_each_another_one(tmp_path, database, space):
    settings = {"method": "tpe", "num_trials": 4, "space": space, "seeds": [1, 2]}
    machines = [Machine(tmp_path / name, settings) for name in ("first", "second")]
    search_at_once(database, *machines)
    first, second = machines
    assert first.states == second.states
    assert len(first.states) == 8
    assert not first.trained & second.trained
    assert set(first.states.values()) == {"finished"}


def test_what_failed_is_tried_once_and_once_more_by_a_later_call(tmp_path, database):
    settings = {"space": {"learning_rate": [1e38, 0.01]}}
    machines = [Machine(tmp_path / name, settings) for name in ("first", "second")]
    search_at_once(database, *machines)
    assert any("learning_rate=1e+38" in machine.trained for machine in machines)  # or by both, if one began that late
    assert {machine.states["learning_rate=1e+38"] for machine in machines} == {"failed"}
    said = machines[0].search(database)
    assert said.count("failed      learning_rate=1e+38") == 1


def test_a_search_that_was_begun_alone_goes_on_in_company(tmp_path, database):
    first, second = (Machine(tmp_path / name, THREE) for name in ("first", "second"))
    first.search(None)
    first.search(database)
    assert [one.state.name for one in study(database).trials] == ["COMPLETE"] * 3
    second.search(database)
    assert second.trained == set()
    assert set(second.states.values()) == {"finished"}


@in_postgres
def test_a_database_that_is_away_for_a_while_stops_nothing(tmp_path, database, server):
    machine = Machine(tmp_path / "away", THREE, num_epochs=200)
    process = machine.start(database)
    wait_for(lambda: list(machine.parent.glob("*/last.pth.tar")))
    server.stop()
    wait_for(lambda: "the database does not answer; trials go on" in machine.said())
    wait_for(lambda: "finished    " in machine.said())
    server.start()
    scripts.wait_for_end(process)
    assert process.exitcode == 0, machine.said()
    assert set(machine.states.values()) == {"finished"}
    assert machine.said().count("does not answer") == 1
    assert [one.state.name for one in study(database).trials] == ["COMPLETE"] * 3


# What is told


def test_another_base_is_refused(tmp_path, database):
    Machine(tmp_path / "first", THREE).search(database)
    said = Machine(tmp_path / "second", THREE, num_epochs=3).search(database, status=2)
    assert "search: the search in the database was begun with another params.json: num_epochs 2 -> 3" in said
    assert "Traceback" not in said


def hide_driver():
    sys.modules["psycopg"] = None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+psycopg://me:secret@127.0.0.1:{port}/none", "error: --storage 127.0.0.1:{port}/none: connection"),
        ("nonsense", "error: --storage nonsense: Could not parse SQLAlchemy URL"),
        ("postgresql+psycopg://127.0.0.1:{port}/none?user=me&password=secret", "error: --storage "),
        ("nosuch://host/base", "error: --storage nosuch://host/base: Can't load plugin"),
        ("sqlite:////nowhere/at/all.db", "error: --storage sqlite:////nowhere/at/all.db: unable to open database file"),
    ],
    ids=["a silent server", "no URL", "a password elsewhere", "no such database", "no such folder"],
)
def test_a_database_that_cannot_be_had_is_one_line(tmp_path, url, said):
    if "psycopg" in url:
        pytest.importorskip("psycopg", reason="pip install -r requirements-postgres.txt")
    port = free_port()
    output = Machine(tmp_path / "first", THREE).search(url.format(port=port), status=2)
    assert output.startswith(said.format(port=port))
    assert output.count("\n") == 1
    assert "secret" not in output


def test_a_missing_driver_is_one_line(tmp_path):
    machine = Machine(tmp_path / "first", THREE)
    said = machine.search("postgresql+psycopg://me@host/base", status=2, before=hide_driver)
    way = "pip install -r requirements-postgres.txt"
    assert said == f"error: --storage host/base: the driver of this database is not installed: {way}\n"
    assert "psycopg" in Path("requirements-postgres.txt").read_text()
