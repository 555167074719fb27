"""The network of `training_loop.py`."""

from benchmarks.digits_task.net import Net, loss_fn, metrics

__all__ = ["Net", "loss_fn", "metrics"]
