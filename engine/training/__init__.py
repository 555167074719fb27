"""What a training run is made of: the task, the device, the optimizer, the state that a checkpoint holds, the scores.

Everything that touches a network lives here; `train.py` and `evaluate.py` put it together. Stands on `data` and
`experiment`. `classification` is imported by name where it is used: Matplotlib and scikit-learn take a second.
"""

from engine.training.album import Album
from engine.training.averaging import average_of
from engine.training.checkpoint import last_checkpoint, load_weights, read_checkpoint, write_checkpoint
from engine.training.device import Device, choose_device, device_for
from engine.training.explanations import (
    batch_errors_explained,
    download_errors_explained,
    label_errors_explained,
    torch_errors_explained,
)
from engine.training.exporting import WithPreprocessing, export
from engine.training.gradients import Gradients
from engine.training.inputs import Inputs, ReadInput, find_sources, form_of_batch, read_inputs
from engine.training.loss_scale import LossScale
from engine.training.meeting import joined
from engine.training.metric_objects import MacroF1
from engine.training.metrics import Losses, Scores, mean_losses, sampling, to_numpy
from engine.training.monitoring import Hook, Watch
from engine.training.optimization import (
    Schedule,
    clip_gradients,
    make_optimizer,
    make_schedule,
    own_optimizer,
    own_schedule,
    set_training_mode,
)
from engine.training.predictions import Columns, Predictions, write_table
from engine.training.processes import Processes
from engine.training.replaying import replay
from engine.training.replicas import replicated
from engine.training.splits import check_examples, check_newness, split_fingerprints, split_sketches
from engine.training.state import State
from engine.training.task import Task, ask_for, fetch_batches, import_anew, learned_values, load_task
from engine.training.together import Together
from engine.training.tracking import TerminalLog, progress_bar, release_log, set_logger
from engine.training.trained import load_trained, read_own_checkpoint

__all__ = [
    "Album",
    "Columns",
    "Device",
    "Gradients",
    "Hook",
    "Inputs",
    "LossScale",
    "Losses",
    "MacroF1",
    "Predictions",
    "Processes",
    "ReadInput",
    "Schedule",
    "Scores",
    "State",
    "Task",
    "TerminalLog",
    "Together",
    "Watch",
    "WithPreprocessing",
    "ask_for",
    "average_of",
    "batch_errors_explained",
    "check_examples",
    "check_newness",
    "choose_device",
    "clip_gradients",
    "device_for",
    "download_errors_explained",
    "export",
    "fetch_batches",
    "find_sources",
    "form_of_batch",
    "import_anew",
    "joined",
    "label_errors_explained",
    "last_checkpoint",
    "learned_values",
    "load_task",
    "load_trained",
    "load_weights",
    "make_optimizer",
    "make_schedule",
    "mean_losses",
    "own_optimizer",
    "own_schedule",
    "progress_bar",
    "read_checkpoint",
    "read_inputs",
    "read_own_checkpoint",
    "release_log",
    "replay",
    "replicated",
    "sampling",
    "set_logger",
    "set_training_mode",
    "split_fingerprints",
    "split_sketches",
    "to_numpy",
    "torch_errors_explained",
    "write_checkpoint",
    "write_table",
]
