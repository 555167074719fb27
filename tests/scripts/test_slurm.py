"""The job scripts of docs/cluster.md, run by a real Slurm on this machine."""

import re
import subprocess
import time

import pytest

from tests.support import scripts
from tests.support.folders import history, read, same_results
from tests.support.scripts import ROOT
from tests.support.services import missing_for_postgres, missing_for_slurm, postgres, slurm
from tests.support.waiting import wait_for

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(missing_for_slurm() is not None, reason=str(missing_for_slurm())),
]

PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
SCRIPTS = dict(re.findall(r"```bash (\S+)\n(.*?)```", PAGE, re.S))


class Cluster:
    """Commands in the environment of a cluster, with the scripts of the page."""

    def __init__(self, environment, folder):
        self.environment, self.folder = environment, folder
        for name, text in SCRIPTS.items():
            (folder / name).write_text(text)

    def do(self, *words):
        done = subprocess.run(
            [str(word) for word in words], env=self.environment, cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def submit(self, script, *words, options=()):
        output = ("-o", f"{self.folder}/%j.out", "-e", f"{self.folder}/%j.out")
        return self.do("sbatch", "--parsable", *output, *options, self.folder / script, *words)

    def state(self, job):
        return self.do("squeue", "-h", "-t", "all", "-o", "%T", "-j", job).split()

    def wait_for_end(self, job, state="COMPLETED"):
        wait_for(
            lambda: not {"PENDING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED"} & set(self.state(job)),
            seconds=120,
        )
        assert set(self.state(job)) == {state}, self.output()

    def start_again(self, job):
        """Have a job that has queued itself again begin now, in place of two minutes later."""
        wait_for(lambda: self.state(job) == ["PENDING"] and self.do("sinfo", "-h", "-o", "%T") == "idle", seconds=120)
        time.sleep(3)  # the end of its script, which Slurm is yet to hear of, would be taken for that of the next one
        self.do("scontrol", "update", f"JobId={job}", "StartTime=now")

    def output(self):
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.out")))


@pytest.fixture(scope="module")
def environment():
    with slurm() as environment:
        yield environment


@pytest.fixture
def cluster(environment, tmp_path):
    return Cluster(environment, tmp_path)


def goes_on(folder):
    """How often a run went on from a checkpoint."""
    return (folder / "train.log").read_text().count("Going on after epoch")


LONG = 100  # epochs


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run of the same experiment that nothing has stopped."""
    folder = tmp_path_factory.mktemp("undisturbed") / "experiment"
    folder.mkdir()
    (folder / "params.json").write_text(
        f'{{"task": "tests.projects.points", "data_dir": "none", "learning_rate": 0.01, "num_epochs": {LONG}}}'
    )
    assert scripts.run("train", "--model_dir", folder, output=folder.parent).status == 0
    return folder


@pytest.mark.parametrize("cause", ["preemption", "time limit"])
def test_a_job_that_is_stopped_queues_itself_again_and_ends_with_the_same_bits(cluster, points, undisturbed, cause):
    folder = points(num_epochs=LONG, threads=1)
    job = cluster.submit("job.sh", "python", "train.py", "--model_dir", folder)
    wait_for((folder / "last.pth.tar").exists, seconds=120)
    if cause == "preemption":  # by a job that needs both cores
        urgent = cluster.do(
            "sbatch", "--parsable", "-p", "urgent", "-N", 2, "-o", f"{cluster.folder}/urgent", "--wrap", "sleep 1"
        )
        cluster.wait_for_end(urgent)
    else:
        cluster.do("scancel", "--signal", "USR1", job)  # what --signal of the script asks Slurm to send
    cluster.start_again(job)
    cluster.wait_for_end(job)
    assert goes_on(folder) == 1
    assert ("Stopped by SIGTERM" if cause == "preemption" else "Stopped by SIGUSR1") in (
        folder / "train.log"
    ).read_text()
    assert same_results(folder, undisturbed)


def test_several_nodes_train_one_network_and_queue_themselves_again(cluster, points):
    folder = points(num_epochs=30, threads=1)
    job = cluster.submit("nodes.sh", folder, options=("--nodes", 2))
    wait_for((folder / "last.pth.tar").exists, seconds=120)
    cluster.do("scancel", "--signal", "USR1", job)
    cluster.start_again(job)
    cluster.wait_for_end(job)
    assert goes_on(folder) == 1
    alone = points("alone", num_epochs=30, threads=1)
    assert scripts.run("train", "--model_dir", alone, output=alone.parent).status == 0
    for row, expected in zip(history(folder), history(alone), strict=True):
        assert row["val_loss"] == pytest.approx(expected["val_loss"], abs=1e-4)


def test_a_job_that_is_cancelled_has_saved_and_stays_away(cluster, points):
    folder = points(num_epochs=LONG * 10)
    job = cluster.submit("job.sh", "python", "train.py", "--model_dir", folder)
    wait_for((folder / "last.pth.tar").exists, seconds=120)
    cluster.do("scancel", job)
    cluster.wait_for_end(job, "CANCELLED")
    assert read(folder, "status.json")["state"] == "interrupted"


def test_a_failure_is_not_tried_again(cluster, points):
    folder = points(optimizer="Adem")
    job = cluster.submit("job.sh", "python", "train.py", "--model_dir", folder)
    cluster.wait_for_end(job, "FAILED")
    assert cluster.output().count('did you mean "Adam"') == 1


@pytest.fixture
def search(points):
    """The folder of a search over three learning rates."""
    folder = points("search", threads=1)
    (folder / "search.json").write_text('{"space": {"learning_rate": [0.001, 0.01, 0.1]}}')
    return folder


def test_each_trial_of_a_search_is_a_job_of_an_array(cluster, search):
    block = next(text for text in re.findall(r"```bash\n(.*?)```", PAGE, re.S) if "--prepare" in text)
    block = block.replace("experiments/learning_rate", str(search)).replace("job.sh", f"{cluster.folder}/job.sh")
    block = block.replace("sbatch", f"sbatch --wait -o {cluster.folder}/%j.out")
    said = cluster.do("bash", "-ec", block)
    assert "Best of 3 finished configurations" in said
    for trial in search.glob("*/params.json"):
        assert len(history(trial.parent)) == 2
        assert "--model_dir" in read(trial.parent, "run.json")["command"]
        assert read(trial.parent, "status.json")["job_id"] is not None  # not by the last command


@pytest.mark.skipif(missing_for_postgres() is not None, reason=str(missing_for_postgres()))
def test_jobs_share_a_search_by_a_database(cluster, search):
    with postgres() as database:
        words = (
            "python",
            "search_hyperparams.py",
            "--parent_dir",
            search,
            "--storage",
            database.url,
            "--num_workers",
            1,
        )
        job = cluster.submit("job.sh", *words, options=("--array", "1-2"))
        cluster.wait_for_end(job)
    assert cluster.output().count("Best of 3 finished configurations") == 2
    assert cluster.output().count("finished    learning_rate=") == 3  # each was trained once
    assert {read(path.parent, "status.json")["state"] for path in search.glob("*/status.json")} == {"finished"}
