"""A search: parallel, pruned, resumable; its trials are ordinary experiments, and nothing of them is lost."""

import functools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.comparison.groups import choose_entries
from engine.errors import UserError
from engine.experiment.entries import read_entry
from engine.experiment.status import alone
from engine.files import write_json
from engine.search.description import read_search
from engine.search.names import trial_name
from engine.search.trials import Trials
from engine.search.workers import Workers
from tests.support import faults, scripts
from tests.support.folders import contents, history, read, same_results
from tests.support.made_runs import make_run
from tests.support.scripts import ROOT
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="stops processes with signals")

BASE = {"task": "tests.projects.points", "data_dir": "none", "num_epochs": 2, "learning_rate": 0.01}
RATES = {"learning_rate": [0.001, 0.01, 0.1]}


@pytest.fixture
def describe(tmp_path):
    """Writes what a search is: `describe({"space": {...}}, num_epochs=3)`; returns its folder."""

    def write(settings, /, **params):
        parent = tmp_path / "search"
        parent.mkdir(exist_ok=True)
        (parent / "params.json").write_text(json.dumps(BASE | params))
        (parent / "search.json").write_text(json.dumps(settings))
        return parent

    return write


@pytest.fixture
def search(tmp_path):
    """Searches and expects a status: `search(parent, "--num_workers", 2)`; returns what was printed."""

    def run(parent, *words, status=0, before=faults.nothing, path=None):
        done = scripts.run(
            "search_hyperparams", "--parent_dir", parent, *words,
            before=functools.partial(faults.both, faults.fork_workers, before), output=tmp_path, path=path,
        )  # fmt: skip
        assert status in (done.status, None), done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def states(parent):
    """The state of each trial by its name."""
    return {path.parent.name: read(path.parent, "status.json")["state"] for path in parent.glob("*/status.json")}


class TestTrials:
    def test_a_trial_is_an_experiment_that_scores_as_it_would_by_itself(self, describe, search, script, tmp_path):
        parent = describe({"space": RATES, "seeds": [1, 2]})
        search(parent)
        names = [f"learning_rate={rate},seed={seed}" for rate in (0.001, 0.01, 0.1) for seed in (1, 2)]
        assert states(parent) == dict.fromkeys(names, "finished")
        trial = parent / names[0]
        assert read(trial, "params.json") == BASE | {
            "learning_rate": 0.001,
            "seed": 1,
            "threads": 1,
            "_trial": 0,
            "_varied": ["learning_rate"],
        }
        alone = tmp_path / "alone"
        alone.mkdir()
        shutil.copy(trial / "params.json", alone)
        assert script("train", "--model_dir", alone).status == 0
        assert same_results(trial, alone)
        assert "Epoch 2/2" in (trial / "train.log").read_text()
        assert script("evaluate", "--model_dir", trial).status == 0

    def test_what_is_finished_is_not_run_again(self, describe, search):
        parent = describe({"space": RATES})
        search(parent)
        before = contents(parent)
        search(parent)
        assert contents(parent) == before

    def test_the_best_configuration_is_that_of_the_best_mean(self, describe, search):
        parent = describe({"space": {"learning_rate": [1e-6, 0.03]}, "seeds": [1, 2]}, num_epochs=3)
        said = search(parent)
        assert "Best of 2 finished configurations: learning_rate=0.03\n" in said
        assert ", mean of 2 seeds" in said
        best = read(parent, "best.json")
        scores = [read(parent / f"learning_rate=0.03,seed={seed}", "metrics_val_best_weights.json") for seed in (1, 2)]
        assert best["score"] == best["scores"]["accuracy"] == pytest.approx(sum(one["accuracy"] for one in scores) / 2)
        assert best["scores"]["loss"] == pytest.approx(sum(one["loss"] for one in scores) / 2)
        assert (best["monitor"], best["mode"], best["params"]["learning_rate"]) == ("accuracy", "max", 0.03)
        assert best["folders"] == [str(parent / f"learning_rate=0.03,seed={seed}") for seed in (1, 2)]

    def test_the_command_that_trains_the_best_one_longer_can_be_typed(self, describe, search, script):
        parent = describe({"space": {"learning_rate": [0.01]}})
        said = search(parent)
        words = next(line for line in said.splitlines() if "train longer" in line).split("train.py ")[1].split()
        assert script("train", *words).status == 0
        longer = parent.with_name("search_best")
        assert read(longer, "params.json") == BASE | {"threads": None, "num_epochs": 4}  # as in the base: all cores
        assert len(history(longer)) == 4

    def test_a_score_that_is_better_low_is_ranked_so(self, describe, search):
        parent = describe({"space": {"learning_rate": [1e-6, 0.03]}}, monitor="loss")
        search(parent)
        assert read(parent, "best.json")["name"] == "learning_rate=0.03"

    def test_an_empty_space_with_seeds_is_one_configuration(self, describe, search):
        parent = describe({"space": {}, "seeds": [1, 2, 3]})
        assert "Best of 1 finished configurations: base\n" in search(parent)
        assert states(parent) == {"seed=1": "finished", "seed=2": "finished", "seed=3": "finished"}

    @pytest.mark.parametrize("method", ["random", "tpe"])
    def test_it_draws_as_many_configurations_as_are_asked_for_each_another_one(self, describe, search, method):
        space = {"learning_rate": {"min": 1e-3, "max": 1e-1, "log": True}, "num_hidden": [4, 8]}
        parent = describe({"method": method, "space": space, "num_trials": 3}, num_epochs=1)
        search(parent)
        first = states(parent)
        assert list(first.values()) == ["finished"] * 3
        search(parent, "--num_trials", 5)
        assert len(states(parent)) == 5
        assert first.keys() < states(parent).keys()

    def test_a_search_with_a_seed_of_its_own_knows_its_trials_again(self, describe, search):
        settings = {"method": "tpe", "num_trials": 2, "space": {"learning_rate": {"min": 1e-3, "max": 1e-1}}}
        parent = describe(settings, num_epochs=1, seed=7)
        search(parent)
        before = states(parent)
        search(parent)
        assert states(parent) == before
        assert len(before) == 2

    @pytest.mark.parametrize("method", ["random", "tpe"])
    def test_a_small_space_is_exhausted_and_nothing_in_it_tried_twice(self, describe, search, method):
        parent = describe({"method": method, "space": {"num_hidden": [2, 4, 8]}, "num_trials": 9}, num_epochs=1)
        search(parent)
        assert sorted(states(parent)) == ["num_hidden=2", "num_hidden=4", "num_hidden=8"]

    def test_only_the_best_keep_their_checkpoints(self, describe, search, script):
        parent = describe({"space": {"learning_rate": [1e-6, 1e-5, 0.03]}, "seeds": [1, 2], "keep": 1})
        search(parent)
        kept = {path.parent.name for path in parent.glob("*/*.pth.tar")}
        assert kept == {"learning_rate=0.03,seed=1", "learning_rate=0.03,seed=2"}
        done = script("evaluate", "--model_dir", parent / "learning_rate=1e-05,seed=1")
        assert done.status == 2
        before = contents(parent)
        search(parent)
        assert contents(parent) == before

    def test_fewer_may_be_kept_later_and_what_was_trained_elsewhere_counts(self, describe, search, script):
        settings = {"space": {"learning_rate": [1e-6, 1e-5, 0.03]}}
        parent = describe(settings)
        search(parent, "--prepare")
        for trial in parent.glob("*/"):
            assert script("train", "--model_dir", trial).status == 0
        for keep in (2, 1):
            describe(settings | {"keep": keep})
            search(parent)
            assert len(list(parent.glob("*/best.pth.tar"))) == keep
        assert (parent / "learning_rate=0.03" / "best.pth.tar").is_file()


class TestWhatIsSearched:
    def test_without_a_search_json_it_says_first_what_it_tries(self, describe, search):
        parent = describe({}, num_epochs=1)
        (parent / "search.json").unlink()
        said = search(parent)
        assert said.startswith(f"{parent} has no search.json: trying learning_rate 0.0001, 0.001, 0.01\n")
        assert list(states(parent).values()) == ["finished"] * 3

    def test_with_one_it_does_not(self, describe, search):
        parent = describe({"space": {"learning_rate": [0.01]}}, num_epochs=1)
        assert "search.json" not in search(parent)

    def test_an_experiment_that_has_been_run_is_no_folder_of_a_search(self, describe, search, script):
        parent = describe({"space": RATES}, num_epochs=1)
        assert script("train", "--model_dir", parent).status == 0
        before = contents(parent)
        said = search(parent, status=2)
        made = f"mkdir {parent}_search && cp {parent}/params.json {parent}_search"
        assert said == f"error: {parent}: is an experiment that has been run; make a folder for the search: {made}\n"
        assert contents(parent) == before
        subprocess.run(made, shell=True, check=True)
        assert "trying learning_rate" in search(f"{parent}_search")


class TestNames:
    def test_they_say_what_varies(self):
        varied = {"learning_rate": 0.001, "dropout_rate": 0.5, "net": "resnet", "flip": True, "seed": 1}
        assert trial_name(varied) == "learning_rate=0.001,dropout_rate=0.5,net=resnet,flip=true,seed=1"

    def test_another_choice_has_another_name(self):
        texts = [
            "a/b",
            "a_b",
            "a b",
            "1",
            1,
            "true",
            True,
            None,
            "null",
            [1, 2],
            "[1,2]",
            "ä",
            "ö",
            "x" * 300,
            "x" * 301,
        ]
        names = [trial_name({"key": text}) for text in texts]
        assert len({name.lower() for name in names}) == len(texts)

    def test_a_value_that_reads_like_others_is_none_of_them(self):
        assert trial_name({"a": "1,b=2", "b": "3"}) != trial_name({"a": "1", "b": "2,b=3"})

    @pytest.mark.parametrize("text", ["../up", "a/b", "a\\b", "a:b", "<script>", "nul\n", "x" * 500, "end."])
    def test_they_are_safe_on_every_system(self, text):
        name = trial_name({"key": text, "seed": 1})
        assert name.isascii()
        assert len(name) <= 120
        assert not set(name) & set('/\\:*?"<>|\n')
        assert name.endswith(",seed=1")

    @pytest.mark.parametrize("choice", [{"key": "a/b"}, {"key": "1"}, {"key": "x" * 500}, {"key": [8, 4]}, {}])
    def test_those_of_one_configuration_differ_in_the_seed_alone(self, choice):
        first, second = (trial_name({**choice, "seed": seed}) for seed in (1, 2))
        assert first.removesuffix("seed=1") == second.removesuffix("seed=2")


HALVING = {"space": {"learning_rate": [0.03, 0.02, 1e-6, 2e-6, 3e-6]}, "seeds": [1, 2], "pruning": "halving"}


class TestPruning:
    def test_what_falls_behind_is_given_up_and_its_other_seeds_are_not_tried(self, describe, search):
        parent = describe(HALVING, num_epochs=9)
        said = search(parent, "--num_workers", 1)
        found = states(parent)
        pruned = [name for name, state in found.items() if state == "pruned"]
        assert sum("e-06" in name for name in pruned) >= 2
        for name in pruned:
            assert name.endswith(",seed=1")
            assert len(history(parent / name)) in (1, 3)
            assert name.replace("seed=1", "seed=2") not in found
            reason = read(parent / name, "status.json")["reason"]
            assert reason.startswith("halving pruning: accuracy 0.")
            assert f"pruned      {name}: {reason}" in said
        assert found[f"{read(parent, 'best.json')['name']},seed=2"] == "finished"
        assert Trials(parent, read_search(parent)).remaining == 0
        before = contents(parent)
        search(parent, "--num_workers", 1)
        assert contents(parent) == before

    def test_a_grid_is_pruned_in_a_random_order_as_each_might_be_better_than_all_before_it(self, describe, search):
        rates = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
        parent = describe({"space": {"learning_rate": rates}, "pruning": "halving"}, num_epochs=1)
        search(parent)
        numbers = [read(parent / f"learning_rate={rate}", "params.json")["_trial"] for rate in rates]
        assert sorted(numbers) == list(range(6)) != numbers

    def test_the_first_seed_that_is_named_stays_the_one_that_decides(self, describe, search):
        parent = describe(HALVING | {"seeds": [2, 1]}, num_epochs=3)
        search(parent)
        assert all(name.endswith("seed=2") for name, state in states(parent).items() if state == "pruned")
        trials = Trials(parent, read_search(parent))
        assert {one.trials[0].params["seed"] for one in trials.configurations} == {2}

    def test_the_other_seeds_of_what_has_passed_are_never_pruned(self, describe, search):
        poor = {"space": {"learning_rate": [1e-6]}}
        parent = describe(poor | {"seeds": [1]}, num_epochs=3, monitor="loss")
        search(parent)
        describe({"space": RATES, "seeds": [2]}, num_epochs=3, monitor="loss")
        search(parent)  # all of them better than the poor one would be with this seed
        describe(poor | {"seeds": [1, 2], "pruning": "halving"}, num_epochs=3, monitor="loss")
        search(parent)
        assert states(parent)["learning_rate=1e-06,seed=2"] == "finished"

    def test_what_was_given_up_stays_so_when_nothing_is_pruned_any_more(self, describe, search):
        parent = describe(HALVING, num_epochs=3)
        search(parent, "--num_workers", 1)
        before = states(parent)
        assert "pruned" in before.values()
        describe(HALVING | {"pruning": "none", "seeds": [2, 1]}, num_epochs=3)
        search(parent)
        assert states(parent) == before

    def test_a_score_that_is_no_number_falls_behind(self, describe, search, variant):
        path = variant("undefined", net="metrics = {'accuracy': lambda outputs, labels: float('nan')}")
        parent = describe({"space": {"learning_rate": [0.01]}, "pruning": "halving"}, task="undefined", num_epochs=3)
        said = search(parent, path=path, status=2)
        assert "pruned      learning_rate=0.01: halving pruning: accuracy nan after epoch 1\n" in said
        assert "no configuration has a score" in said

    def test_the_median_prunes_too(self, describe, search):
        rates = [0.03, 0.02, 0.01, 0.04, 1e-6, 2e-6]
        parent = describe({"space": {"learning_rate": rates}, "pruning": "median"}, num_epochs=4)
        search(parent, "--num_workers", 1)
        assert [name for name, state in states(parent).items() if state == "pruned"]

    def test_a_pruned_trial_can_be_trained_on_by_hand(self, describe, search, script):
        parent = describe(HALVING, num_epochs=9)
        search(parent, "--num_workers", 1)
        trial = next(parent / name for name, state in states(parent).items() if state == "pruned")
        assert script("train", "--model_dir", trial).status == 0
        assert len(history(trial)) == 9


class TestNothingIsLost:
    def test_a_trial_that_fails_costs_itself_alone(self, describe, search):
        parent = describe({"space": {"optimizer": ["Adam", "Adem"]}})
        said = search(parent)
        assert states(parent) == {"optimizer=Adem": "failed", "optimizer=Adam": "finished"}
        assert "failed      optimizer=Adem: " in said
        log = (parent / "optimizer=Adem" / "train.log").read_text()
        assert 'did you mean "Adam"?' in log
        assert "Traceback" not in log

    def test_one_that_diverges_fails_with_the_reason(self, describe, search):
        parent = describe({"space": {"learning_rate": [1e38, 0.01]}})
        said = search(parent)
        assert states(parent) == {"learning_rate=1e+38": "failed", "learning_rate=0.01": "finished"}
        assert "the loss is no longer a finite number" in said

    def test_our_own_faults_keep_their_traceback_in_the_log(self, describe, search, variant):
        path = variant(
            "broken", net="def accuracy(outputs, labels):\n    return 1 / 0\nmetrics = {'accuracy': accuracy}"
        )
        parent = describe({"space": {}}, task="broken")
        said = search(parent, path=path, status=2)
        assert "no configuration has a score: ZeroDivisionError: division by zero (1 of 1 trials)" in said
        assert "failed      base: ZeroDivisionError: division by zero" in said
        assert "Traceback" in (parent / "base" / "train.log").read_text()

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            ("import sys\ndef Net(params):\n    sys.exit('no licence')", "SystemExit: no licence"),
            ("def loss_fn(outputs, labels):\n    raise ValueError('one\\n  two')", "ValueError: one two"),
        ],
        ids=["an exit", "a reason of several lines"],
    )
    def test_why_one_failed_is_told_in_one_line(self, describe, search, variant, code, reason):
        path = variant("broken", net=code)
        parent = describe({"space": {}}, task="broken")
        said = search(parent, path=path, status=2)
        assert said.count(f"failed      base: {reason}\n") == 1
        assert states(parent) == {"base": "failed"}

    def test_what_failed_is_tried_once_more_by_each_call(self, describe, search, variant):
        path = variant(
            "broken", net="def accuracy(outputs, labels):\n    return 1 / 0\nmetrics = {'accuracy': accuracy}"
        )
        parent = describe({"space": {}}, task="broken")
        for calls in (1, 2):
            search(parent, path=path, status=2)
            assert (parent / "base" / "train.log").read_text().count("Traceback") == calls
        (path / "broken" / "net.py").write_text("from tests.projects.points.net import *")
        search(parent, path=path)
        assert states(parent) == {"base": "finished"}
        assert read(parent / "base", "status.json")["reason"] is None

    def test_one_whose_process_is_killed_goes_on_from_its_checkpoint(self, describe, search, tmp_path):
        parent = describe({"space": {"learning_rate": [0.01]}}, num_epochs=4)
        search(parent)
        undisturbed = parent.rename(tmp_path / "undisturbed")
        parent = describe({"space": {"learning_rate": [0.01]}}, num_epochs=4)
        killed = functools.partial(faults.once, tmp_path / "killed", faults.die)
        said = search(parent, before=functools.partial(faults.act_at_batch, 16, killed))
        assert "interrupted learning_rate=0.01: killed by SIGKILL, out of memory?" in said
        assert "Going on after epoch 2" in (parent / "learning_rate=0.01" / "train.log").read_text()
        assert same_results(parent / "learning_rate=0.01", undisturbed / "learning_rate=0.01")

    def test_one_that_is_killed_again_and_again_waits_for_the_next_call(self, describe, search):
        parent = describe({"space": {"learning_rate": [0.01]}})
        said = search(parent, status=2, before=functools.partial(faults.act_at_batch, 3, faults.die))
        assert said.count("interrupted learning_rate=0.01: killed by SIGKILL") == 2
        assert states(parent) == {"learning_rate=0.01": "interrupted"}
        search(parent)
        assert states(parent) == {"learning_rate=0.01": "finished"}

    def test_a_crash_below_python_is_a_failure(self, describe, search):
        parent = describe({"space": {"learning_rate": [0.01]}})
        crash = functools.partial(faults.signal_self, signal.SIGSEGV)
        assert "killed by SIGSEGV" in search(parent, status=2, before=functools.partial(faults.act_at_batch, 3, crash))
        assert states(parent) == {"learning_rate=0.01": "failed"}

    def test_a_damaged_file_makes_its_trial_a_failed_one(self, describe, search):
        parent = describe({"space": RATES})
        search(parent)
        (parent / "learning_rate=0.01" / "run.json").write_text("{")
        said = search(parent)
        assert "failed      learning_rate=0.01: " in said
        assert "run.json is damaged" in said
        assert "Best of 2 finished configurations" in said

    def test_changing_the_search_adds_trials_and_overwrites_none(self, describe, search):
        parent = describe({"space": {"learning_rate": [0.01, 0.1]}})
        search(parent)
        before = contents(parent)
        describe({"space": {"learning_rate": [0.01, 0.03], "num_hidden": [4]}, "seeds": [1]})
        search(parent)
        after = contents(parent)
        changed = {name for name in before if after.get(name) != before[name]}
        assert changed <= {"search.json", "best.json"}
        assert len(states(parent)) == 4
        assert json.loads(after["best.json"])["name"]

    def test_more_seeds_join_the_configurations_that_are_there(self, describe, search):
        parent = describe({"space": {"learning_rate": [0.01]}, "seeds": [1]})
        search(parent)
        describe({"space": {"learning_rate": [0.01]}, "seeds": [1, 2]})
        assert "Best of 1 finished configurations" in search(parent)
        assert len(read(parent, "best.json")["folders"]) == 2

    def test_a_trial_without_a_seed_of_its_own_is_that_of_the_seed_it_has(self, describe, search):
        parent = describe({"space": {"learning_rate": [0.01]}})
        search(parent, "--prepare")
        describe({"space": {"learning_rate": [0.01]}, "seeds": [230, 1]})  # 230 is the default
        search(parent)
        assert states(parent) == {"learning_rate=0.01": "finished", "learning_rate=0.01,seed=1": "finished"}
        assert len(read(parent, "best.json")["folders"]) == 2

    def test_steps_may_change_where_configurations_are_suggested_one_by_one(self, describe, search):
        for step, count in ((4, 2), (3, 3)):
            space = {"num_hidden": {"min": 2, "max": 11, "step": step}}
            parent = describe({"method": "tpe", "num_trials": count, "space": space}, num_epochs=1)
            search(parent)
        assert {"num_hidden=2", "num_hidden=5"} & states(parent).keys()
        assert len(states(parent)) >= 3

    def test_so_they_do_where_configurations_are_suggested_one_by_one(self, describe, search):
        settings = {"method": "tpe", "num_trials": 2, "space": {"learning_rate": {"min": 1e-3, "max": 1e-1}}}
        parent = describe(settings | {"seeds": [1]}, num_epochs=1)
        search(parent)
        describe(settings | {"seeds": [1, 2]}, num_epochs=1)
        search(parent)
        assert len(states(parent)) == 4

    def test_a_trial_from_another_base_is_not_mixed_in(self, describe, search):
        parent = describe({"space": RATES})
        search(parent)
        before = contents(parent)
        describe({"space": RATES}, num_epochs=3)
        said = search(parent, status=2)
        assert "learning_rate=0.001 was made from another params.json: num_epochs 2 -> 3" in said
        assert contents(parent).keys() == before.keys()

    def test_nor_is_one_from_another_base_of_which_nothing_is_asked_any_more(self, describe, search):
        parent = describe({"space": RATES})
        search(parent)
        describe({"space": {"learning_rate": [0.02], "num_hidden": [4]}}, num_epochs=3)
        assert "was made from another params.json: num_epochs 2 -> 3" in search(parent, status=2)
        assert len(states(parent)) == 3

    def test_a_seed_may_move_from_the_base_into_the_search(self, describe, search):
        parent = describe({"space": {"learning_rate": [0.01]}}, seed=7)
        search(parent)
        for space in ({"learning_rate": [0.01]}, {"num_hidden": [4]}):
            describe({"space": space, "seeds": [7]})
            search(parent)
        assert states(parent) == dict.fromkeys(["learning_rate=0.01", "num_hidden=4,seed=7"], "finished")

    def test_an_experiment_that_is_no_trial_is_not_taken_for_one(self, describe, search):
        parent = describe({"space": RATES})
        (parent / "learning_rate=0.01").mkdir()
        (parent / "learning_rate=0.01" / "params.json").write_text(json.dumps(BASE | {"learning_rate": 0.5}))
        said = search(parent, status=2)
        assert "learning_rate=0.01 is there already and no trial of this search; move it away" in said
        assert states(parent) == {}

    def test_every_trial_is_checked_before_the_first_one_starts(self, describe, search):
        for settings in (
            {"space": {"batch_size": [8, 0]}},
            {"space": {"batch_size": {"min": 0, "max": 8}}, "method": "tpe", "num_trials": 1},
        ):
            parent = describe(settings)
            assert '"batch_size" must be at least 1' in search(parent, status=2)
            assert not list(parent.glob("batch_size*"))

    def test_a_copy_of_a_trial_does_not_count(self, describe, search):
        parent = describe({"space": {"learning_rate": [0.01]}})
        search(parent)
        shutil.copytree(parent / "learning_rate=0.01", parent / "copy")
        search(parent)
        assert len(read(parent, "best.json")["folders"]) == 1


@pytest.mark.processes
class TestStopping:
    """With the real server, as signals and deaths meet real processes."""

    @pytest.fixture
    def start(self, tmp_path):
        """Starts a search as it is typed, in a process group of its own; all of it is gone in the end."""
        started = []

        def begin(parent, *words):
            command = [sys.executable, "search_hyperparams.py", "--parent_dir", str(parent), *words]
            output = (tmp_path / "output").open("w")
            started.append(subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True))
            return started[-1]

        yield begin
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL], ids=lambda number: number.name)
    def test_it_leaves_every_trial_resumable_and_goes_on(self, describe, search, start, tmp_path, number):
        settings = {"space": {"learning_rate": [0.01, 0.02]}}
        parent = describe(settings, num_epochs=60)
        process = start(parent, "--num_workers", "2")
        wait_for(lambda: len(list(parent.glob("*/last.pth.tar"))) == 2)
        pids = [read(path.parent, "status.json")["pid"] for path in parent.glob("*/status.json")]
        assert [os.getpgid(pid) for pid in pids] == pids  # the search alone is asked, and asks them
        if number == signal.SIGKILL:
            process.kill()
            assert process.wait() == -number
            wait_for(lambda: list(states(parent).values()) == ["interrupted"] * 2)
        else:
            process.send_signal(number)
            os.killpg(process.pid, number)  # as a terminal does, and clusters besides
            assert process.wait() == 128 + number
            assert list(states(parent).values()) == ["interrupted"] * 2  # it has waited for them
        said = (tmp_path / "output").read_text()
        assert "Traceback" not in said
        assert ("Next: go on   python search_hyperparams.py" in said) == (number != signal.SIGKILL)
        search(parent)
        assert list(states(parent).values()) == ["finished"] * 2
        for trial in parent.glob("*/"):
            assert len(history(trial)) == 60
            assert "Going on after epoch" in (trial / "train.log").read_text()

    def test_a_cluster_may_signal_each_process_and_the_group(self, describe, search, start, tmp_path):
        parent = describe({"space": {"learning_rate": [0.01, 0.02, 0.03]}}, num_epochs=60)
        process = start(parent, "--num_workers", "2", "--num_trials", "3", "--data_dir", "some where")
        wait_for(lambda: len(list(parent.glob("*/last.pth.tar"))) == 2)
        workers = [read(path.parent, "status.json")["pid"] for path in parent.glob("*/status.json")]
        for _ in range(2):
            for pid in (*workers, process.pid):
                os.kill(pid, signal.SIGTERM)
            os.killpg(process.pid, signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
        assert list(states(parent).values()) == ["interrupted"] * 2
        said = (tmp_path / "output").read_text()
        assert "Traceback" not in said
        assert "Stopped with 0 of 3 trials done" in said
        words = shlex.split(said.split("Next: go on   python search_hyperparams.py ")[1])
        assert words == [
            "--parent_dir", str(parent), "--data_dir", "some where", "--num_trials", "3", "--num_workers", "2"
        ]  # fmt: skip
        search(*words[1:2], *words[2:])
        assert list(states(parent).values()) == ["finished"] * 3
        assert sum("Going on after epoch" in (trial / "train.log").read_text() for trial in parent.glob("*/")) == 2

    def test_ctrl_c_while_all_is_imported_is_no_traceback(self, describe, start, variant, tmp_path, monkeypatch):
        sign = tmp_path / "sign"
        path = variant("slow", net=f"import pathlib, time\npathlib.Path({str(sign)!r}).touch()\ntime.sleep(2)")
        monkeypatch.setenv("PYTHONPATH", str(path))
        parent = describe({"space": RATES}, task="slow")
        process = start(parent)
        wait_for(sign.exists)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait() == 130
        wait_for(lambda: not self.has_group(process.pid))
        said = (tmp_path / "output").read_text()
        command = f"python search_hyperparams.py --parent_dir {parent}"
        assert said == f"Stopped with 0 of 3 trials done\nNext: go on   {command}\n"
        assert "Traceback" not in said

    @staticmethod
    def has_group(number):
        try:
            os.killpg(number, 0)
        except ProcessLookupError:
            return False
        return True

    def test_a_task_that_touches_a_gpu_at_import_is_told_so(self, describe, start, variant, tmp_path, monkeypatch):
        path = variant("greedy", net="import torch\ntorch.cuda._initialized = True  # what torch.cuda.init() leaves")
        monkeypatch.setenv("PYTHONPATH", str(path))
        parent = describe({"space": RATES}, task="greedy")
        assert start(parent).wait() == 2
        assert "error: the task touches a GPU at import" in (tmp_path / "output").read_text()
        assert states(parent) == {}

    def test_a_task_that_cannot_be_imported_ends_the_search(self, describe, start, variant, tmp_path, monkeypatch):
        path = variant("broken", net="1 / 0")
        monkeypatch.setenv("PYTHONPATH", str(path))
        parent = describe({"space": RATES}, task="broken")
        assert start(parent).wait() == 2
        said = (tmp_path / "output").read_text()
        assert "ZeroDivisionError" in said
        assert "error: the task cannot be imported; why stands above" in said

    def test_two_searches_in_one_folder_are_refused(self, describe, search):
        parent = describe({"space": RATES})
        with alone(parent):
            assert "is being searched by another process" in search(parent, status=2)
        assert states(parent) == {}

    def test_a_trial_that_trains_elsewhere_is_waited_for_and_not_run_twice(self, describe, search, tmp_path):
        parent = describe({"space": RATES})
        search(parent, "--prepare")
        (tmp_path / "first").mkdir()
        pause = functools.partial(time.sleep, 3)
        sign = tmp_path / "slow"
        slow = functools.partial(faults.act_at_batch, 10, functools.partial(faults.both, sign.touch, pause))
        trial = parent / "learning_rate=0.01"
        other = scripts.start("train", "--model_dir", trial, before=slow, output=tmp_path / "first")
        wait_for(sign.exists)
        search(parent)
        other.join()
        assert list(states(parent).values()) == ["finished"] * 3
        assert "continued" not in read(trial, "run.json")
        assert (trial / "train.log").read_text().count("Training ") == 1


class TestClusters:
    def test_it_prepares_folders_and_a_command_for_each(self, describe, search, script):
        parent = describe({"space": RATES, "seeds": [1]})
        said = search(parent, "--prepare", "--data_dir", "some where")
        assert "3 commands in " in said
        commands = (parent / "commands.txt").read_text().splitlines()
        name = f"{parent}/learning_rate=0.001,seed=1"
        assert commands[0] == f"python train.py --model_dir {name} --data_dir 'some where'"
        assert sorted(path.name for path in parent.glob("*/")) == [
            f"learning_rate={rate},seed=1" for rate in (0.001, 0.01, 0.1)
        ]
        assert states(parent) == {}
        assert script("train", "--model_dir", name).status == 0
        before = contents(parent / "learning_rate=0.001,seed=1")
        search(parent)
        assert contents(parent / "learning_rate=0.001,seed=1") == before
        assert list(states(parent).values()) == ["finished"] * 3
        assert "sbatch" not in search(parent, "--prepare")
        assert (parent / "commands.txt").read_text() == ""

    def test_the_line_for_a_job_array_can_be_typed(self, describe, search, tmp_path):
        parent = describe({"space": RATES}).rename(tmp_path / "my search")
        said = search(parent, "--prepare")
        words = shlex.split(said.split("SLURM:  ")[1].splitlines()[0])
        assert words[:3] == ["sbatch", "--array=1-3", "--wrap"]
        told = "python() { printf '%s\\n' \"$@\"; }; "  # in place of Python
        job = subprocess.run(
            ["bash", "-c", told + words[3]],
            env={**os.environ, "SLURM_ARRAY_TASK_ID": "2"},
            capture_output=True,
            text=True,
        )
        assert job.stdout.splitlines() == ["train.py", "--model_dir", f"{parent}/learning_rate=0.01"]

    @pytest.mark.parametrize(
        "more", [{"method": "tpe", "num_trials": 3}, {"pruning": "median"}], ids=["tpe", "pruning"]
    )
    def test_what_depends_on_other_trials_cannot_be_prepared(self, describe, search, more):
        assert "--prepare is for grid and random" in search(describe({"space": RATES, **more}), "--prepare", status=2)


class TestTheTestSplit:
    LOOKS = """
from engine.training.device import choose_device
from engine.training.task import fetch_batches, load_task
import torch

def configure_optimizer(model, params):
    fetch_batches(load_task("tests.projects.points", params), ["test"], params, choose_device("cpu"))
    return torch.optim.Adam(model.parameters())
"""

    def test_to_ask_for_it_in_a_search_is_an_error(self, describe, search, variant, script, experiment):
        path = variant("curious", net=self.LOOKS)
        parent = describe({"space": RATES}, task="curious")
        assert "a search must not look at test" in search(parent, path=path, status=2)
        folder = experiment(**BASE | {"task": "curious"})
        assert script("train", "--model_dir", folder, path=path).status == 0  # elsewhere it is the user's own affair


class TestWorkers:
    @pytest.fixture
    def workers(self, monkeypatch):
        monkeypatch.setattr("engine.search.workers.start_method", lambda: "fork")
        with Workers([]) as workers:
            yield workers

    def test_devices_are_dealt_out_in_turn(self, workers):
        workers.deal(3, "cpu, mps", "auto")
        assert workers.devices == ["cpu", "mps", "cpu"]

    def test_each_worker_has_the_device_with_the_fewest(self, workers, tmp_path, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-4f, GPU-5a")
        workers.devices = ["cuda:0", "cuda:1", "cuda:0"]
        for name in ("a", "b", "c"):
            assert workers.has_room
            workers.start(name, tmp_path / "log", note_device, tmp_path / name)
        assert not workers.has_room
        ended = {}
        while len(ended) < 3:
            ended |= workers.ended(1)
        assert ended == {"a": 0, "b": 0, "c": 0}
        assert sorted((tmp_path / name).read_text() for name in ("a", "b", "c")) == ["GPU-4f", "GPU-4f", "GPU-5a"]
        assert not os.access(tmp_path / "log", os.X_OK)

    @pytest.mark.parametrize(("device", "seen"), [("cpu", ""), (None, None), ("cuda", "0"), ("cuda:2", "2")])
    def test_a_worker_sees_its_own_device_alone(self, workers, tmp_path, monkeypatch, device, seen):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        workers.devices = [device]
        workers.start("a", tmp_path / "log", note_device, tmp_path / "a")
        while not workers.ended(1):
            pass
        assert (tmp_path / "a").read_text() == str(seen)

    @pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be taken away here")
    def test_without_a_gpu_there_is_a_worker_for_each_core_that_may_be_used(self, workers):
        cores = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, {min(cores)})  # as a cluster's queue does
            workers.deal(None, None, "cpu")
        finally:
            os.sched_setaffinity(0, cores)
        assert workers.devices == [None]

    @pytest.mark.parametrize(
        ("devices", "meant", "said"),
        [
            ("cpu,gpu", "auto", '"gpu" is none'),
            ("cuda:0", "cuda:1", "take one of them out"),
            ("cpu,cuda:99", "auto", '"cuda:99" is not there; torch sees'),
        ],
    )
    def test_devices_that_are_none_or_contradict_the_params_are_refused(self, workers, devices, meant, said):
        with pytest.raises(UserError, match=said):
            workers.deal(1, devices, meant)


def note_device(path):
    path.write_text(str(os.environ.get("CUDA_VISIBLE_DEVICES")))


class TestWhatIsSaid:
    """Of searches whose trials have left what they would have left."""

    @pytest.fixture
    def trained(self, describe, search):
        """Makes a search whose trials are done: `trained({"space": {...}}, {"learning_rate=0.1": [0.9]})`."""

        def make(settings, scores, /, **params):
            parent = describe(settings, **params)
            search(parent, "--prepare")
            for name, accuracies in scores.items():
                written = read(parent / name, "params.json")
                params = {key: value for key, value in written.items() if key[0] != "_"}
                make_run(parent / name, accuracies, params=params)
                write_json(parent / name / "params.json", written)
            return parent

        return make

    def test_what_a_task_prints_stands_in_its_log_between_the_lines_there(self, describe, search, variant):
        call = "    def forward(self, inputs):\n        print('one batch')\n        return super().forward(inputs)"
        path = variant("talking", net=f"print('imported')\nclass Net(Net):\n{call}")
        parent = describe({"space": {"learning_rate": [0.01]}}, task="talking")
        assert "one batch" not in search(parent, path=path)
        lines = (parent / "learning_rate=0.01" / "train.log").read_text().splitlines()
        assert lines.count("one batch") == 2 * (7 + 2)  # batches of 32 of 200 points, and of 60
        assert lines.count("imported") == 1
        epochs = [number for number, line in enumerate(lines) if "Epoch " in line]
        assert len(epochs) == 2  # each line of the log once
        assert lines[epochs[1] :].count("one batch") == 9

    def test_a_terminal_may_lack_letters(self, trained, search):
        scores = {f"learning_rate=0.1,seed={seed}": [seed / 10] for seed in (1, 2, 3)}
        parent = trained({"space": {"learning_rate": [0.1]}, "seeds": [1, 2, 3]}, scores)
        said = search(parent, before=functools.partial(faults.encode_as, "ascii"))
        assert "Best of 1 finished configurations: learning_rate=0.1" in said
        assert re.search(r"0\.20* \? 0\.10*", said)

    def test_a_folder_that_may_not_be_written_is_one_line(self, describe, search):
        parent = describe({"space": RATES})
        parent.chmod(0o555)
        said = search(parent, status=1, before=faults.lose_privileges)
        assert said == f"error: {parent}/.search.lock: is not ours to read or write (Permission denied)\n"

    @pytest.mark.parametrize("place", [".disk", "disk/b/c", "../disk"], ids=["hidden", "deeper", "outside"])
    @pytest.mark.parametrize("seeds", [[], [1, 2]], ids=["one seed", "seeds"])
    def test_a_trial_may_be_a_link(self, trained, search, place, seeds):
        names = [f"learning_rate=0.1,seed={seed}" for seed in seeds] or ["learning_rate=0.1"]
        parent = trained({"space": {"learning_rate": [0.1]}, "seeds": seeds}, {name: [0.5] for name in names})
        disk = parent / place
        disk.mkdir(parents=True)
        for name in names:
            (parent / name).rename(disk / name)
            for link in (name, f"a{name}", f"z{name}"):  # and further names of it
                (parent / link).symlink_to(disk / name)
        said = search(parent)
        assert "Best of 1 finished configurations: " in said
        (words,) = (line.split("evaluate.py ")[1] for line in said.splitlines() if "test it" in line)
        option, path = shlex.split(words)
        found = choose_entries(Path(path)) if option == "--parent_dir" else [read_entry(Path(path))]
        assert len(found) == len(names)  # what evaluate.py would find

    def test_a_data_dir_that_varies_is_not_overridden(self, describe, search):
        parent = describe({"space": {"data_dir": ["a", "b"]}})
        said = search(parent, "--data_dir", "c", status=2)
        assert said == f'error: {parent}/search.json: "data_dir" stands in the space, so leave out --data_dir\n'
        assert states(parent) == {}

    def test_without_any_score_it_says_why(self, trained, search):
        scores = {"learning_rate=0.001": [None, None], "learning_rate=0.01": [None], "learning_rate=0.1": [None]}
        parent = trained({"space": RATES}, scores)
        write_json(parent / "learning_rate=0.1" / "status.json", {"state": "pruned", "reason": "others lead"})
        said = search(parent, status=2)
        why = "accuracy was a finite number in no epoch (2 of 3 trials); others lead (1 of 3 trials)"
        assert f"no configuration has a score: {why}" in said

    def test_trials_of_other_data_or_code_are_told(self, trained, search):
        parent = trained({"space": RATES}, {f"learning_rate={rate}": [0.5] for rate in RATES["learning_rate"]})
        assert "Warning" not in search(parent)
        told = []
        for changes in ({"code": {"net.py": "2"}}, {"data": {"sha256": "1"}}, {"data": {"sha256": "2"}}):
            trial = parent / "learning_rate=0.01"
            write_json(trial / "run.json", read(trial, "run.json") | changes)
            told += [line for line in search(parent).splitlines() if "Warning" in line]
            trial = parent / "learning_rate=0.1"
            write_json(trial / "run.json", read(trial, "run.json") | {"data": {"sha256": "1"}})
        differ = ["code", "code", "data and code"]
        assert told == [f"Warning: finished trials differ in their {what}: scores may not compare" for what in differ]

    def test_a_space_that_holds_less_than_is_asked_for_is_told(self, trained, search):
        settings = {"space": {"num_hidden": [4, 8]}, "method": "random", "num_trials": 3}
        parent = trained(settings, {"num_hidden=4": [0.5], "num_hidden=8": [0.6]})
        assert "\nThe space holds 2 configurations, fewer than the 3 asked for\n" in search(parent)
        assert "fewer" not in search(parent, "--num_trials", "2")

    @pytest.mark.parametrize("name", ["status.json", "run.json", "metrics.jsonl", "metrics_val_best_weights.json"])
    def test_what_is_half_written_ends_nothing(self, trained, search, name):
        contents = ["", "{", "[]", "null", '{"state": "running"}', '{"state": ["running"]}', '{"seconds": "1"}', "\xff"]
        widths = [4, *range(5, 5 + len(contents))]
        scores = {f"num_hidden={width}": [0.5] for width in widths}
        parent = trained({"space": {"num_hidden": widths}}, scores)
        for width, content in zip(widths[1:], contents, strict=True):
            (parent / f"num_hidden={width}" / name).write_bytes(content.encode("latin-1"))
        said = search(parent)
        assert "Traceback" not in said + "".join(path.read_text() for path in parent.glob("*/train.log"))
        assert "finished configurations: num_hidden=" in said

    @pytest.mark.parametrize(
        ("settings", "params", "schedule"),
        [
            ({"pruning": "halving"}, {"schedule": "onecycle"}, "onecycle"),
            ({"pruning": "median"}, {"schedule": "cosine"}, "cosine"),
            ({"pruning": "halving", "space": {"schedule": ["constant", "linear"]}}, {}, "linear"),
            ({"pruning": "halving", "space": {"schedule": ["constant"]}}, {"schedule": "linear"}, None),
            ({"pruning": "halving"}, {"schedule": "plateau"}, None),
            ({}, {"schedule": "onecycle"}, None),
        ],
    )
    def test_a_schedule_that_pruning_cuts_short_is_told(self, describe, search, settings, params, schedule):
        said = search(describe({"space": RATES, "num_trials": 1, **settings}, **params), "--prepare", status=None)
        assert ("Warning: " in said) == (schedule is not None)
        assert schedule is None or f'("schedule": "{schedule}")' in said

    def test_a_search_over_folds_is_told_that_its_best_is_one_of_them(self, describe, search):
        assert "the easiest fold" in search(describe({"space": {"fold": [0, 1], **RATES}}), "--prepare")
        assert "the easiest fold" not in search(describe({"space": RATES}), "--prepare", status=None)
