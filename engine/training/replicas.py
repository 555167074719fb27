"""One network in several processes: what makes its copies the same, and keeps them so beside the gradients."""

import logging

from torch import Tensor, nn

from engine.training.averaging import STATISTICS
from engine.training.device import refuse_lazy
from engine.training.processes import Processes

COUNTER = "num_batches_tracked"
BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)


def replicated(model: nn.Module, sync_batchnorm: bool, processes: Processes) -> nn.Module:
    """The network with the weights of the first process in all of them.

    On GPUs, batch norm then sees the whole batch, which is never looked at where `sync_batchnorm` is off.
    """
    if processes.count == 1:
        return model
    refuse_lazy(model, "torchrun")
    on_gpu = any(parameter.is_cuda for parameter in model.parameters())
    if sync_batchnorm and on_gpu:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    elif any(isinstance(module, BATCH_NORMS) for module in model.modules()):
        logging.info(
            f"Batch norm sees the shares of {processes.count} processes each by itself, so that this is not quite what "
            "one process would train; its statistics are averaged after each step"
        )
    processes.copy_from_first([*model.parameters(), *model.buffers()])
    return model


class Buffers:
    """The buffers of a network, and which of them have changed since they were looked at."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.look()

    def look(self) -> None:
        """Take them as they are now."""
        self._seen = [(buffer, buffer._version) for buffer in self.model.buffers()]
        self.statistics = [
            (buffer, buffer.clone())  # how they were: norms change them without a trace
            for name, buffer in self.model.named_buffers()
            if name.rpartition(".")[2] in STATISTICS
        ]

    def changes(self) -> list[float]:
        """For each of them 1 if it has changed, else 0."""
        pairs = zip(self.model.buffers(), self._seen, strict=True)
        return [float(now is not seen or now._version != version) for now, (seen, version) in pairs]

    def to_copy(self, changed: list[float], with_counters: bool) -> list[Tensor]:
        """Of those that have changed anywhere, the ones that are to be the first process's.

        Statistics are to become means, and counters of batches are the same by themselves, unless a process was absent.
        """
        named = [pair for pair, times in zip(self.model.named_buffers(), changed, strict=True) if times]
        left_out = STATISTICS if with_counters else (*STATISTICS, COUNTER)
        return [buffer for name, buffer in named if name.rpartition(".")[2] not in left_out]
