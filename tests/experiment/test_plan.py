"""What to do with a folder is decided once: begin, go on, nothing as it is finished, or refuse with what to type."""

import json

import pytest

from engine.errors import UserError, command, slip
from engine.experiment import farewell, fingerprint_of, held, list_files, plan_evaluation, plan_training
from engine.hyperparameters import DEFAULTS
from tests.support.made_runs import make_run, write


@pytest.fixture
def run(tmp_path):
    """Makes a folder as a run has left it: `run("begun")`, `run("finished", width=8)`."""

    def make(state, **params):
        params = {"task": "tests.projects.points", "data_dir": "none", "num_epochs": 3, **params}
        folder = make_run(tmp_path / "runs" / "one", state=state, params=params, data=None)
        write(folder, "run.json", {**json.loads((folder / "run.json").read_text()), "params": {**DEFAULTS, **params}})
        for name in ("best", "last"):
            (folder / f"{name}.pth.tar").write_bytes(b"weights")
        write(folder, "metrics_val_best_weights.json", {"accuracy": 0.5, "loss": 0.7})
        return folder

    return make


def refusal(*arguments, plan=plan_training, **options):
    with pytest.raises(UserError) as refused:
        plan(*arguments, **options)
    return str(refused.value)


def test_a_folder_with_no_more_than_params_is_begun(tmp_path):
    write(tmp_path, "params.json", {"learning_rate": 0.5})
    plan = plan_training(tmp_path, data_dir="elsewhere")
    assert (plan.stage, plan.goes_on, plan.is_finished, plan.weights) == ("new", False, False, None)
    assert (plan.params.learning_rate, plan.params.data_dir, plan.given) == (
        0.5,
        "elsewhere",
        {"data_dir": "elsewhere"},
    )
    with pytest.raises(AttributeError):
        plan.stage = "begun"


def test_a_run_that_was_interrupted_goes_on_with_what_was_given_when_it_began(run):
    folder = run("interrupted")
    record = json.loads((folder / "run.json").read_text())
    record["params"]["data_dir"] = "given"
    write(folder, "run.json", {**record, "given": {"data_dir": "given"}})
    plan = plan_training(folder)
    assert (plan.goes_on, plan.params.data_dir, plan.weights) == (True, "given", None)
    fresh = plan_training(folder, fresh=True)
    assert (fresh.goes_on, fresh.params.data_dir, fresh.given) == (False, "none", {})


def test_a_finished_run_is_finished_and_says_what_to_type_next(run):
    plan = plan_training(folder := run("finished"))
    assert plan.is_finished
    said = farewell(plan)
    assert "best on val: accuracy 0.5, loss 0.7" in said
    assert f"python evaluate.py --model_dir {folder}" in said
    assert f"--from {folder} --set num_epochs=6" in said
    assert not plan_training(folder, fresh=True).is_finished


@pytest.mark.parametrize("monitor", ["accuracy", "loss"])
def test_a_run_without_a_best_epoch_says_so_and_names_what_can_be_tested(run, monitor):
    folder = run("finished")
    (folder / "metrics_val_best_weights.json").unlink()
    write(folder, "run.json", {**json.loads((folder / "run.json").read_text()), "monitor": monitor})
    said = farewell(plan_training(folder))
    assert f"val {monitor} was a number in none of them" in said
    assert f"python evaluate.py --model_dir {folder} --restore_file last" in said
    assert ("--set monitor=loss --set mode=min" in said) == (monitor != "loss")
    assert "train longer" not in said


@pytest.mark.parametrize("state", ["finished", "interrupted"])
def test_changed_params_are_refused_but_for_those_of_how_it_runs(run, state):
    folder = run(state, width=8)
    write(folder, "params.json", {**json.loads((folder / "params.json").read_text()), "width": 9, "num_workers": 2})
    line = refusal(folder)
    assert "other params or data: width 8 -> 9. " in line
    assert f"{folder} --fresh " in line


def test_weights_of_the_run_that_is_to_be_moved_aside_are_a_start(run):
    plan = plan_training(folder := run("finished"), restore_file="best", fresh=True)
    assert plan.weights == folder / "best.pth.tar"
    assert plan.params.init_from == ".old/1/best.pth.tar"  # where they will lie
    plan.experiment.set_aside()
    assert plan.experiment.checkpoint(plan.params.init_from).read_bytes() == b"weights"
    assert plan_training(folder, restore_file=".old/1/last.pth.tar").weights == folder / ".old" / "1" / "last.pth.tar"


def test_another_start_for_a_run_that_has_begun_is_refused(run):
    folder = run("interrupted")
    assert "--restore_file says where a run starts; start over:" in refusal(folder, restore_file="best")
    record = json.loads((folder / "run.json").read_text())
    write(folder, "run.json", {**record, "given": {"init_from": "best"}})
    assert plan_training(folder, restore_file="best").goes_on  # the same command again


@pytest.mark.parametrize("also_gone", [[], ["last.pth.tar"]], ids=["all of them", "the best one alone"])
def test_checkpoints_that_were_not_written_here_are_no_run_to_go_on_from_nor_to_write_over(run, also_gone):
    folder = run("interrupted")
    for name in ["run.json", "status.json", "metrics.jsonl", *also_gone]:
        (folder / name).unlink()
    line = refusal(folder)
    assert "were not written here" in line
    assert line.endswith("--fresh --restore_file best")
    assert plan_training(folder, restore_file="best", fresh=True).weights == folder / "best.pth.tar"


def test_a_folder_in_which_another_process_has_trained_meanwhile_is_left_alone(tmp_path, run):
    write(tmp_path / "runs" / "one", "params.json", {"task": "tests.projects.points", "data_dir": "none"})
    plan = plan_training(tmp_path / "runs" / "one")
    folder = run("finished")
    with pytest.raises(UserError, match="another process has trained here just now"), held(plan):
        raise AssertionError("this is another's")
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"


# Folders that are none


def test_hints_can_be_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refusal("experiments/new") == "experiments/new: no such folder; make it, with a params.json in it"
    write(tmp_path / "experiments" / "base", "params.json", {})
    line = refusal("experiments/new")
    assert line.endswith("to make one: python train.py --model_dir experiments/new --from experiments/base")
    assert "did you mean" in refusal("experiments/bsae")
    assert refusal("experiments/base/params.json").endswith("is the folder of an experiment: experiments/base")
    line = refusal("experiments/new", source="experiments/base/params.json")
    assert line.endswith("name the folder that it is in: --from experiments/base")


@pytest.mark.parametrize(
    ("running", "script", "typed"),
    [
        ("train.py", "train", "python train.py"),
        ("train_gan.py", "train", "python train_gan.py"),
        ("train_gan.py", "evaluate", "python evaluate.py"),
        ("../my project/train.py", "evaluate", "python '../my project/evaluate.py'"),
        ("/usr/lib/pytest/__main__.py", "train", "python train.py"),
    ],
)
def test_a_hint_calls_scripts_as_the_running_one_was_called(tmp_path, monkeypatch, running, script, typed):
    project = tmp_path / "my project"
    project.mkdir()
    for name in ("train.py", "train_gan.py", "evaluate.py"):
        (project / name).touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere" if "/" in running else project)
    monkeypatch.setattr("sys.argv", [running])
    assert command(script) == typed


# Settings


@pytest.mark.parametrize(
    ("one", "other", "is_slip"),
    [
        ("learning_rat", "learning_rate", True),
        ("leraning_rate", "learning_rate", True),
        ("Batch_Size", "batch_size", True),
        ("imagesize", "image_size", True),
        ("widdth", "width", True),
        ("width", "width", False),
        ("dropout_rate", "rotate", False),
        ("depth", "width", False),
        ("ab", "ba", True),
        ("abc", "cba", False),
    ],
)
def test_a_slip_is_one_letter_or_two_in_turn(one, other, is_slip):
    assert (slip(one, [other]) == other) is is_slip
    assert (slip(other, [one]) == one) is is_slip


def test_a_key_is_a_slip_unless_the_task_reads_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "mixing"
    package.mkdir()
    (package / "net.py").write_text("def Net(params):\n    return params.beta, getattr(params, 'fold', 0)\n")
    write(tmp_path / "base", "params.json", {"task": "mixing", "width": 3})
    made = plan_training("new", source="base", settings=["beta=0.5", "fold=2", "unheard_of=1"])
    assert made.to_write == {"task": "mixing", "width": 3, "beta": 0.5, "fold": 2, "unheard_of": 1}
    assert 'did you mean "width"?' in refusal("new", source="base", settings=["widht=4"])
    write(tmp_path / "other", "params.json", {"task": "tests.projects.points"})
    assert 'did you mean "betas"?' in refusal("new", source="other", settings=["beta=0.5"])


# Evaluation


def test_what_is_evaluated_has_a_name_of_its_own_unless_it_is_the_experiments_own_best(run, tmp_path):
    folder = run("finished")
    other = make_run(tmp_path / "runs" / "other")
    for path in (other / "best.pth.tar", folder / ".old" / "1" / "best.pth.tar", tmp_path / "far.pth.tar"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")
    names = {
        "best": "test",
        str(folder / "best.pth.tar"): "test",
        "last": "test_last",
        "../other/best.pth.tar": "test_other_best",
        str(other / "best.pth.tar"): "test_other_best",
        ".old/1/best.pth.tar": "test_old_1_best",
        str(tmp_path / "far.pth.tar"): "test_far",
    }
    plans = {name: plan_evaluation(folder, restore_file=name) for name in names}
    assert {name: plan.name for name, plan in plans.items()} == names
    assert {plan.tag for plan in plans.values() if plan.name == "test"} == {"best"}
    parts = [plan_evaluation(folder, restore_file=name, max_batches=2).name for name in ("best", "last")]
    assert parts == ["test_best_2_batches", "test_last_2_batches"]


def test_other_data_are_named_and_moved_data_are_not_other(run, tmp_path):
    for name in ("own", "other"):
        write(tmp_path / name, "data.json", {"name": "x" if name == "own" else "something else"})
    folder = run("finished", data_dir=str(tmp_path / "own"))
    record = json.loads((folder / "run.json").read_text())
    write(folder, "run.json", {**record, "data": fingerprint_of(list_files(tmp_path / "own"))})
    (tmp_path / "own").rename(tmp_path / "moved")
    moved = plan_evaluation(folder, data_dir=str(tmp_path / "moved"))
    assert (moved.is_on_other_data, moved.name) == (False, "test")
    other = plan_evaluation(folder, data_dir=str(tmp_path / "other"))
    assert other.is_on_other_data
    assert other.name.startswith("test_best_on_")
    assert other.name.endswith("other")
    write(tmp_path / "third", "data.json", {})
    others = [plan_evaluation(folder, split="new", data_dir=str(tmp_path / name)) for name in ("other", "third")]
    assert len({plan.name for plan in others}) == 2  # the predictions of one folder are not those of another
    assert all(plan.name.startswith("new_best_on_") for plan in others)
    assert other.look == {"checkpoint": "best", "data_dir": str(tmp_path / "other")}


@pytest.mark.parametrize(
    "damage",
    [
        {"params": 3},
        {"params": {}},
        {"given": [1]},
        {"given": {"data_dir": 7}},
        {"continued": 3},
        {"continued": [3, None]},
        {"data": "none"},
        {"data": {}},
        {"code": [], "evaluations": {}, "git": 1},
        {"monitor": [], "mode": {}},
    ],
    ids=str,
)
def test_a_record_that_somebody_has_changed_is_one_line_or_nothing(run, damage):
    folder = run("interrupted")
    write(folder, "run.json", {**json.loads((folder / "run.json").read_text()), **damage})
    (folder / "metrics.jsonl").write_text('3\n{"epoch": "one"}\n[]\n{"epoch": 1}\n{"epo')
    for plan in (plan_training, plan_evaluation):
        try:
            experiment = plan(folder).experiment
        except UserError as error:
            assert str(folder) in str(error)
            continue
        assert experiment.history() == [{"epoch": 1}]
        experiment.cut_history(1)
        experiment.record_evaluation("test", "best", {"scores": {}})
        assert len(experiment.run()["evaluations"]) == 1
        run("interrupted")
        write(folder, "run.json", {**json.loads((folder / "run.json").read_text()), **damage})
        (folder / "metrics.jsonl").write_text('3\n{"epoch": "one"}\n[]\n{"epoch": 1}\n{"epo')


def test_a_key_that_a_later_version_brought_was_its_default(run):
    folder = run("interrupted")
    record = json.loads((folder / "run.json").read_text())
    del record["params"]["sync_batchnorm"]
    write(folder, "run.json", record)
    assert plan_training(folder).goes_on
    write(folder, "params.json", {**json.loads((folder / "params.json").read_text()), "sync_batchnorm": False})
    assert "sync_batchnorm True -> False" in refusal(folder)
