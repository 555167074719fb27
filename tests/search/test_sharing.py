"""Whose a trial is, where two machines meet at a database in the same moment."""

import json
import time

import pytest

import engine.search.sharing
from engine.search.description import read_search
from engine.search.sharing import Shared
from engine.search.trials import Trials

BASE = {"task": "tests.projects.points", "data_dir": "none", "num_epochs": 2}


@pytest.fixture
def machines(tmp_path, monkeypatch):
    """Makes two searches of one folder's name, and on one disk, that share a database."""
    monkeypatch.setattr(engine.search.sharing, "LOST_SECONDS", 1)
    monkeypatch.setattr(engine.search.sharing, "POLL_SECONDS", 0.0)
    parent = tmp_path / "search"
    parent.mkdir()
    (parent / "params.json").write_text(json.dumps(BASE))

    def make(settings):
        (parent / "search.json").write_text(json.dumps(settings))
        return [Shared(f"sqlite:///{tmp_path}/study.db", Trials(parent, read_search(parent))) for _ in range(2)]

    return make


def asked(machine, number, values):
    """A trial that a machine asks for."""
    machine.trials.add(number, values)
    return machine.trials.configurations[-1].trials[0]


def begun(machine):
    """The trial that a machine has taken, and begins to train."""
    trial = asked(machine, 0, {"num_hidden": 2})
    trial.experiment.write_params(trial.params)
    assert machine.take(trial)
    return trial


ONE = {"method": "tpe", "num_trials": 1, "space": {"num_hidden": [2, 4, 8]}}


def test_a_trial_is_taken_by_one_machine_alone(machines):
    first, second = machines(ONE)
    trials = [asked(machine, 0, {"num_hidden": 2}) for machine in (first, second)]
    assert first.take(trials[0])
    assert not second.take(trials[1])
    first.exchange([])
    assert first.take(trials[0])  # it has it


def test_so_it_is_where_both_have_seen_that_it_waits(machines):
    first, second = machines(ONE)
    trials = [asked(machine, 0, {"num_hidden": 2}) for machine in (first, second)]
    first.exchange([])
    second.exchange([])
    assert first.take(trials[0])
    assert not second.take(trials[1])


def test_of_two_suggestions_for_the_last_place_the_later_one_is_withdrawn(machines):
    first, second = machines(ONE)
    one, other = asked(first, 0, {"num_hidden": 2}), asked(second, 0, {"num_hidden": 4})
    assert first.take(one)
    assert not second.take(other)
    second.exchange([])
    assert [one.name for one in second.trials.configurations] == ["num_hidden=2"]
    assert not (second.trials.parent / "num_hidden=4").exists()
    first.exchange([])
    assert [one.name for one in first.trials.configurations] == ["num_hidden=2"]


def test_what_fails_while_both_search_is_tried_by_one_of_them_and_once_more_by_a_later_search(machines):
    first, second = machines(ONE)
    trial = begun(first)
    trial.experiment.status.write("failed", reason="of its own")
    first.tell(trial)
    first.exchange([])
    second.exchange([])
    assert not second.take(second.trials.configurations[0].trials[0])
    later, _ = machines(ONE)
    later.exchange([])
    assert later.take(later.trials.configurations[0].trials[0])


def test_a_machine_that_was_taken_for_lost_and_is_not_has_its_trial_again(machines):
    first, second = machines(ONE)
    trial = begun(first)
    first.exchange([trial])
    time.sleep(2.5)
    second.exchange([])  # declares it lost
    trial.experiment.status.write("running", epoch=1)
    first.exchange([trial])
    assert not second.take(second.trials.configurations[0].trials[0])
    assert [one.state.name for one in first.study.trials] == ["FAIL", "RUNNING"]


def test_one_that_others_have_begun_in_the_meantime_is_theirs(machines):
    first, second = machines(ONE)
    trial = begun(first)
    first.exchange([trial])
    time.sleep(2.5)
    second.exchange([])
    assert second.take(second.trials.configurations[0].trials[0])
    trial.experiment.status.write("finished")
    first.exchange([trial])
    first.tell(trial)
    first.exchange([])
    assert [one.state.name for one in first.study.trials] == ["FAIL", "RUNNING"]
