"""Search hyperparameters: many experiments, several at a time, each in a folder of its own.

    python search_hyperparams.py --parent_dir experiments/learning_rate
    python search_hyperparams.py --parent_dir experiments/learning_rate --num_trials 40 --num_workers 4
    python search_hyperparams.py --parent_dir experiments/learning_rate --prepare
    python search_hyperparams.py --parent_dir experiments/learning_rate --storage postgresql+psycopg://user@host/base

The folder's params.json is what all trials share; what varies stands in search.json beside it. Run it again, and it
goes on where it was: what is finished stays, what was interrupted goes on, what failed is tried once more. With
--storage, the same command on any number of machines carries out one search.
"""

import argparse
import itertools
import json
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from os.path import samefile
from pathlib import Path
from shlex import join, quote

from engine.comparison import group_entries, make_table, terminal_text
from engine.errors import UserError, run
from engine.experiment import (
    BEST,
    LOG,
    PARAMS,
    RUN,
    SEARCH,
    Experiment,
    Occupied,
    Pruned,
    Stopped,
    StopRequest,
    alone,
    check_tracker,
    plan_training,
    read_entries,
)
from engine.files import replacing, write_json
from engine.hosting import hosted
from engine.hyperparameters import Values, load_params
from engine.search import ENDED, Company, LiveTable, Search, Trial, Trials, Workers, read_search, without_password

# What a trial imports sooner or later: torch, what its first optimizer needs, TensorBoard with its pictures, and ours.
TORCHS = ("torch", "torch._dynamo", "torch.utils.tensorboard", "tensorboard.plugins.hparams.api_pb2")
OURS = ("PIL.PngImagePlugin", "filelock", "train", "engine.search.pruning", "search_hyperparams")
KILLED = ("SIGKILL", "SIGTERM", "SIGINT")  # from outside; other signals are crashes


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `arguments` stand in for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parent_dir", default="experiments/learning_rate", help="folder of the search")
    parser.add_argument("--data_dir", help="folder with the data, in place of data_dir in params.json")
    parser.add_argument("--num_trials", type=int, help="configurations to try, in place of num_trials in search.json")
    parser.add_argument("--num_workers", type=int, help="trials at a time; if absent one per GPU, else per CPU core")
    parser.add_argument("--devices", metavar="cuda:0,cuda:1", help="devices to deal out; if absent all GPUs")
    parser.add_argument("--prepare", action="store_true", help="only make the folders, for a cluster's own queue")
    parser.add_argument("--storage", metavar="URL", help="database through which several machines search together")
    options = parser.parse_args(arguments)
    if options.num_workers is not None and options.num_workers < 1:
        parser.error(f"--num_workers must be at least 1, not {options.num_workers}")
    if options.prepare and options.storage:
        parser.error("--prepare is for a cluster's own queue, which deals trials out by itself: leave out --storage")
    return options


# Which configurations there are to be


def refuse_experiment(parent: Path) -> None:
    """Refuse to fill the folder of an experiment that has been run with trials."""
    if Experiment(parent).file(RUN).is_file():
        folder, source = quote(f"{parent}_search"), quote(str(parent / PARAMS))
        raise UserError(
            f"{parent}: is an experiment that has been run; make a folder for the search: "
            f"mkdir {folder} && cp {source} {folder}"
        )


def tell_plan(parent: Path, search: Search) -> None:
    """Say what is varied where nobody has said it, and what may come of a rash choice."""
    if schedules := search.cut_short:
        print("Warning: pruning compares trials midway, where a learning rate that comes down")
        print(f'  at the end ("schedule": "{schedules[0]}") tells little; "constant" compares well', flush=True)
    if "fold" in search.space:
        print("Warning: each fold counts as a configuration of its own, and the best one may have")
        print("  the easiest fold; the table has the means over folds", flush=True)
    if not (parent / SEARCH).is_file():
        space = "; ".join(f"{key} {', '.join(map(str, one.bounds()))}" for key, one in search.space.items())
        print(f"{parent} has no search.json: trying {space}", flush=True)


def plan(trials: Trials) -> None:
    """Ask for all that is known beforehand: a grid, or random draws."""
    search = trials.search
    if search.method == "tpe":
        return
    if search.method == "grid":
        configurations = search.grid()
    else:
        from engine.search.sampling import random_draws

        configurations = random_draws(search)
    for number, values in enumerate(itertools.islice(configurations, search.num_trials)):
        trials.add(number, values)


def ask(trials: Trials) -> bool:
    """Have TPE suggest a configuration that is not there yet, from all that is known; returns whether there is one."""
    from engine.search.sampling import guided_draws

    search, evidence = trials.search, trials.evidence()
    count = len(evidence)
    if trials.is_exhausted or count >= search.wanted:
        return False
    draws = guided_draws(search, evidence, trials.watched[1])
    trials.is_exhausted = not any(trials.add(count, values) for values in draws)
    return not trials.is_exhausted


def due_trial(trials: Trials, busy: set[str]) -> Trial | None:
    """A trial that could be trained next, if there is one."""
    trial = trials.due(busy)
    if trial is None and trials.search.method == "tpe" and ask(trials):
        trial = trials.due(busy)
    return trial


def next_trial(trials: Trials, busy: set[str], company: Company) -> Trial | None:
    """The trial to start next, if there is one that nobody else has taken."""
    busy = set(busy)
    while (trial := due_trial(trials, busy)) is not None and not company.take(trial):
        busy.add(trial.name)
    return trial


# Training them


def train_trials(trials: Trials, workers: Workers, stop: StopRequest, data_dir: str | None, company: Company) -> None:
    """Keep all workers busy until nothing is left to train, here or elsewhere."""
    table = LiveTable(trials)
    running: dict[str, Trial] = {}
    try:
        while True:
            stop.check()
            company.exchange(running.values())
            while workers.has_room and (trial := next_trial(trials, set(running), company)) is not None:
                start_trial(trial, trials, workers, data_dir)
                running[trial.name] = trial
            if not running and company.is_over:
                return
            table.show(list(running.values()))
            for name, status in workers.ended(seconds=0.5).items():
                trial = running.pop(name)
                note_end(trial, status)
                table.tell_end(trial)
                company.tell(trial)
                trials.drop_checkpoints()
    finally:
        table.clear()


def start_trial(trial: Trial, trials: Trials, workers: Workers, data_dir: str | None) -> None:
    """Give a trial to a free worker."""
    search = trials.search
    trial.attempts += 1
    trial.experiment.write_params(trial.params)
    pruning = search.pruning if trials.is_pilot(trial) else "none"
    seed = trial.seed if search.seeds else None
    log = trial.experiment.file(LOG)
    workers.start(trial.name, log, train_trial, trial.experiment.folder, data_dir, pruning, seed)


def note_end(trial: Trial, status: int) -> None:
    """Write down how a trial ended whose process could not do so itself, as it was killed or crashed."""
    if status < 0 and trial.experiment.status.shown() in (None, "interrupted"):
        name = signal.Signals(-status).name
        hint = ", out of memory?" if name == "SIGKILL" else ""
        state = "interrupted" if name in KILLED else "failed"
        trial.experiment.status.write(state, reason=f"killed by {name}{hint}")


def train_trial(folder: Path, data_dir: str | None, pruning: str, seed: int | None) -> None:
    """What a worker does: `train.py` on the folder of a trial, with the pruner as its hook and without a test split."""
    import train
    from engine.training import import_anew

    experiment = Experiment(folder)
    import_anew(load_params(experiment.file(PARAMS)).task)  # the server's import was under no seed
    sys.argv = train_command(folder, data_dir)[1:]

    def recorded() -> None:
        try:
            plan = plan_training(folder, data_dir)
            plan.params.withhold("test")
            train.carry_out(plan, on_epoch=hook(experiment, pruning, seed))
        except Pruned:
            pass
        except (Occupied, Stopped):
            raise
        except (Exception, SystemExit) as error:
            if experiment.status.read().get("state") != "failed":
                experiment.status.end(error)  # a run that fails before its first step leaves no word of its own
            raise

    run(recorded)


def hook(experiment: Experiment, pruning: str, seed: int | None) -> Callable[[int, Values], None] | None:
    """What the training loop is to call after each epoch; None where nothing is pruned."""
    if pruning == "none":
        return None
    from engine.search.pruning import make_pruner

    return make_pruner(experiment, pruning, seed)


def train_command(folder: Path, data_dir: str | None) -> list[str]:
    """What one would type to train a trial by hand."""
    return ["python", "train.py", "--model_dir", str(folder), *(["--data_dir", data_dir] if data_dir else [])]


# What comes of it


def prepare(trials: Trials, data_dir: str | None) -> None:
    """Make the folders of all trials, and a file with the command for each that is yet to be trained."""
    if trials.search.method == "tpe" or trials.search.pruning != "none":
        raise UserError("--prepare is for grid and random searches without pruning: nothing is known of other trials")
    commands = []
    for trial in trials:
        trial.experiment.write_params(trial.params)
        if trials.entry(trial).state not in ENDED:
            commands.append(join(train_command(trial.experiment.folder, data_dir)))
    path = trials.parent / "commands.txt"
    with replacing(path) as file:
        file.write("".join(f"{command}\n" for command in commands).encode())
    print(f"{len(commands)} commands in {path}, one per line")
    if commands:
        line = f'eval "$(sed -n ${{SLURM_ARRAY_TASK_ID}}p {quote(str(path))})"'
        print(f"As a job array of SLURM:  sbatch --array=1-{len(commands)} --wrap {quote(line)}")
    print(f"Then see what came of it:  python search_hyperparams.py --parent_dir {quote(str(trials.parent))}")


def conclude(trials: Trials) -> Values:
    """Print the table, the best configuration and what one would type next; the best one stays in best.json."""
    ranking = trials.ranking()
    if not ranking:
        raise UserError(f"{trials.parent}: no configuration has a score: {trials.without_score()}; see their train.log")
    groups = group_entries(read_entries(trials.parent))
    print(f"\n{terminal_text(make_table(groups), [], shutil.get_terminal_size(fallback=(120, 0)).columns)}\n")

    score, best = ranking[0]
    monitor, mode = trials.watched
    folders = [trial.experiment.folder for trial in best.trials]
    result = {"name": best.name, "monitor": monitor, "mode": mode, "score": score, "scores": trials.scores(best)}
    result |= {"params": best.params, "folders": [str(one) for one in folders]}
    write_json(trials.parent / "best.json", result)
    tell_doubts(trials)
    print(f"Best of {len(ranking)} finished configurations: {best.name}")
    over = f", mean of {len(folders)} seeds" if len(folders) > 1 else ""
    print(f"  val: {', '.join(f'{name} {value:.4g}' for name, value in trials.scores(best).items())}{over}")
    print(f"  params: {json.dumps(best.params)}")

    group = next(one for one in groups if any(samefile(entry.folder, folders[0]) for entry in one.entries))  # or a link
    tested = (
        f"--parent_dir {quote(f'{trials.parent}/{group.name}')}" if over else f"--model_dir {quote(str(folders[0]))}"
    )
    if not any(folder.joinpath(BEST).is_file() for folder in folders):
        hosts = sorted({str(trial.experiment.status.read().get("host")) for trial in best.trials})
        print(f"  its checkpoints are not here, but on {', '.join(hosts)}")
    threads = json.dumps(trials.search.base.get("threads"))  # of the base: a trial had one, as there were others
    longer = f"--from {quote(str(folders[0]))} --set num_epochs={2 * best.trials[0].num_epochs} --set threads={threads}"
    print(f"Next: compare them   python synthesize_results.py --parent_dir {quote(str(trials.parent))}")
    print(f"      test it        python evaluate.py {tested}")
    print(f"      train longer   python train.py --model_dir {quote(f'{trials.parent}_best')} {longer}")
    return result


def tell_doubts(trials: Trials) -> None:
    """Say where there was less to try than was asked for, and where scores may not compare."""
    count, asked_for = sum(one.is_wanted for one in trials.configurations), trials.search.num_trials
    if asked_for is not None and count < asked_for:
        print(f"The space holds {count} configurations, fewer than the {asked_for} asked for")
    finished = [entry for entry in map(trials.entry, trials) if entry.state == "finished"]
    recorded = {"data": {entry.data for entry in finished}, "code": {entry.code for entry in finished}}
    if differ := [name for name, prints in recorded.items() if len(prints - {""}) > 1]:
        print(f"Warning: finished trials differ in their {' and '.join(differ)}: scores may not compare")


def main(arguments: Sequence[str] | None = None) -> Values:
    """Train all trials of a search, or go on with it; returns what is in best.json."""
    with hosted("search_hyperparams", arguments):
        return carry_out(parse_arguments(arguments))


def carry_out(options: argparse.Namespace) -> Values:
    """Train all trials as the command line says, and tell which is best."""
    parent = Path(options.parent_dir)
    refuse_experiment(parent)
    search = read_search(parent, options.num_trials)
    tell_plan(parent, search)
    if options.data_dir and "data_dir" in search.space:
        raise UserError(f'{parent / SEARCH}: "data_dir" stands in the space, so leave out --data_dir')
    with nullcontext() if options.storage else alone(parent):  # a database says whose each trial is
        trials = Trials(parent, search)
        plan(trials)
        if options.prepare:
            prepare(trials, options.data_dir)
            return {}
        company = share(trials, options.storage) if options.storage else Company(trials)
        if due_trial(trials, set()) or not company.is_over:  # else all is done, and no torch need be imported
            train_in_workers(trials, options, company)
        trials.drop_checkpoints()  # of what was trained elsewhere, or if fewer are to be kept than before
        return conclude(trials)


def share(trials: Trials, url: str) -> Company:
    """The company of all machines that search by the same database."""
    from engine.search.sharing import Shared

    return Shared(url, trials)


def train_in_workers(trials: Trials, options: argparse.Namespace, company: Company) -> None:
    """Train all trials in processes that are warm, until there are no more or a signal comes."""
    search = trials.search
    check_tracker(search.base.get("tracker"))
    try:
        with (
            StopRequest() as stop,
            company,
            Workers([*TORCHS, *OURS, *search.task_modules]) as workers,
        ):
            workers.deal(options.num_workers, options.devices, search.base.get("device", "auto"))
            stop.between_steps()
            train_trials(trials, workers, stop, options.data_dir, company)
    except Stopped:
        tell_stop(trials, options)
        raise


def tell_stop(trials: Trials, options: argparse.Namespace) -> None:
    """Say how far the search is, and how it goes on."""
    done = sum(trials.entry(trial).state in ENDED for trial in trials)
    best = "".join(f", best {trials.watched[0]} {score:.4g}: {one.name}" for score, one in trials.ranking()[:1])
    names = ("parent_dir", "data_dir", "num_trials", "num_workers", "devices", "storage")
    given = {name: str(value) for name in names if (value := getattr(options, name)) is not None}
    if options.storage:
        given["storage"] = without_password(options.storage)
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    print(f"Stopped with {done} of {trials.total} trials done{best}")
    print(f"Next: go on   {join(['python', 'search_hyperparams.py', *words])}")
    if given.get("storage") != options.storage:
        print("              with the password in the place of ***, or in ~/.pgpass, where it need not be typed")


if __name__ == "__main__":
    run(main)
