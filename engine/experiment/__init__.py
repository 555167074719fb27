"""An experiment is a folder: its files, its lock and status, the record of where its numbers come from.

Paths, JSON and signals enter, never a tensor: nothing here imports torch, so what reads ten thousand folders is fast.
Stands on the ground alone.
"""

from engine.experiment.data_files import as_listed, fingerprint_of, list_files
from engine.experiment.data_files import describe as describe_data
from engine.experiment.declarations import Declarations, read_declarations
from engine.experiment.entries import AXES, LARGEST, Entry, read_entries, read_entry
from engine.experiment.folder import Experiment
from engine.experiment.monitor import choose_monitor, merit, usual_mode
from engine.experiment.names import (
    BEST,
    BEST_SCORES,
    DATA,
    HISTORY,
    LAST,
    LAST_SCORES,
    LOG,
    PARAMS,
    PREVIOUS,
    RUN,
    SAMPLED,
    SEARCH,
    STATUS,
    TEST_SCORES,
    TRACKED,
)
from engine.experiment.plan import Evaluation, Plan, check_tracker, farewell, held, plan_evaluation, plan_training
from engine.experiment.provenance import code_now, package_versions, provenance_of
from engine.experiment.records import latest_record, read_object, read_rows
from engine.experiment.replay import Replay, plan_replay
from engine.experiment.revisions import code_difference, code_differences
from engine.experiment.status import Occupied, alone, outcome_of
from engine.experiment.stopping import Pruned, Stopped, StopRequest

__all__ = [
    "AXES",
    "BEST",
    "BEST_SCORES",
    "DATA",
    "HISTORY",
    "LARGEST",
    "LAST",
    "LAST_SCORES",
    "LOG",
    "PARAMS",
    "PREVIOUS",
    "RUN",
    "SAMPLED",
    "SEARCH",
    "STATUS",
    "TEST_SCORES",
    "TRACKED",
    "Declarations",
    "Entry",
    "Evaluation",
    "Experiment",
    "Occupied",
    "Plan",
    "Pruned",
    "Replay",
    "StopRequest",
    "Stopped",
    "alone",
    "as_listed",
    "check_tracker",
    "choose_monitor",
    "code_difference",
    "code_differences",
    "code_now",
    "describe_data",
    "farewell",
    "fingerprint_of",
    "held",
    "latest_record",
    "list_files",
    "merit",
    "outcome_of",
    "package_versions",
    "plan_evaluation",
    "plan_replay",
    "plan_training",
    "provenance_of",
    "read_declarations",
    "read_entries",
    "read_entry",
    "read_object",
    "read_rows",
    "usual_mode",
]
