"""Batch norm over all processes without a GPU, which PyTorch's own asks for."""

import torch
import torch.distributed as dist
from torch import nn


class SumOfAll(torch.autograd.Function):
    """The sum over all processes, forward and backward."""

    @staticmethod
    def forward(context, own):
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context, gradient):
        return SumOfAll.forward(context, gradient)


class SyncNorm(nn.SyncBatchNorm):
    """(B, C, L) -> the same, normalised over the rows of all processes: each waits for the others, as on GPUs."""

    def forward(self, inputs):
        if not self.training or not dist.is_initialized():
            return nn.BatchNorm1d.forward(self, inputs)
        values = inputs.double().transpose(0, 1).flatten(1)  # (C, B * L)
        own = [values.sum(1), values.square().sum(1), torch.full((1,), values.shape[1], dtype=values.dtype)]
        total, squares, (count,) = SumOfAll.apply(torch.cat(own)).split([len(values), len(values), 1])
        mean = total / count
        variance = squares / count - mean.square()
        with torch.no_grad():
            self.running_mean.lerp_(mean.float(), self.momentum)
            self.running_var.lerp_((variance * count / (count - 1)).float(), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight / (variance + self.eps).sqrt()
        return ((inputs - mean[:, None]) * scale[:, None] + self.bias[:, None]).float()
