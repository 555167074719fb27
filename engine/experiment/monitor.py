"""Which score decides what is best, and which way: one answer for training, search, table and report."""

import math
import re
from collections.abc import Collection, Iterable

from engine.errors import UserError, did_you_mean, nearest
from engine.hyperparameters import Values

KNOWN_MODES = {"accuracy": "max", "loss": "min"}  # of others, training wants to be told
WORDS = {
    "max": "accuracy acc f1 precision recall sensitivity specificity auc auroc auprc ap map iou miou jaccard dice "
    "kappa mcc r2 bleu rouge chrf psnr ssim top1 top5 correlation pearson spearman likelihood reward",
    "min": "loss error err mse rmse mae mape nll bce perplexity ppl wer cer fid lpips bpc bpd divergence distance",
}
DIRECTIONS = {word: mode for mode, words in WORDS.items() for word in words.split()}


def choose_monitor(monitor: str | None, mode: str | None, logged: Iterable[str]) -> tuple[str, str]:
    """The score that decides, and whether it is better high (`max`) or low (`min`), where a run is trained.

    Raises `UserError` for a score that is not logged, and for one whose mode is neither said nor known.
    """
    names = list(logged)
    monitor = monitor or default_monitor(names)
    if monitor not in names:
        hint = did_you_mean(monitor, names)
        raise UserError(f'"monitor": "{monitor}" is not logged; logged are {", ".join(names)}{hint}')
    check_monitor(monitor, mode)
    return monitor, mode or KNOWN_MODES[monitor]


def check_monitor(monitor: str | None, mode: str | None) -> None:
    """Raise `UserError` for a score to watch whose mode is neither said nor known; a slip in its name comes later."""
    if monitor and not mode and monitor not in KNOWN_MODES and not nearest(monitor, KNOWN_MODES):
        raise UserError(f'"monitor": "{monitor}" needs "mode": "max" or "min" beside it in params.json')


def recorded_monitor(record: Values, params: Values, logged: Collection[str] = ()) -> tuple[str, str | None]:
    """The score that decides in a folder, and which way: as recorded of the run, else as training would choose.

    Where nothing is recorded and nobody says which way, the score's name may tell; None if it does not.
    """
    monitor = str(record.get("monitor") or params.get("monitor") or default_monitor(logged or KNOWN_MODES))
    mode = record.get("mode") or params.get("mode")
    return monitor, mode if mode in ("max", "min") else usual_mode(monitor)


def default_monitor(logged: Collection[str]) -> str:
    """The score that decides where nobody says: the accuracy, if there is one, else the loss."""
    return "accuracy" if "accuracy" in logged else "loss"


def usual_mode(metric: str) -> str | None:
    """Whether a metric is better high (`max`) or low (`min`), as far as the words in its name tell."""
    words = re.split(r"[^a-z0-9]+", metric.lower())
    modes = {DIRECTIONS[word] for word in words if word in DIRECTIONS}
    return modes.pop() if len(modes) == 1 else None


def merit(score: float | None, loss: float | None, mode: str | None) -> tuple[float, float]:
    """What the epochs of a run are compared by, more is better: the score that decides, and of equal ones the loss.

    Of two epochs that are equal in both, the later one counts. NaN, or None in its place, is worse than any number.
    """
    deciding = score if mode == "max" or score is None else -score
    return _number(deciding), _number(None if loss is None else -loss)


def _number(value: float | None) -> float:
    return -math.inf if value is None or value != value else value  # NaN, or any number, however large
