"""An embedding, a recurrent layer and a hand-written loss that skips the padding, as the course did it in 2018."""
# ruff: noqa  # in the manner of its time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    """(B, T) word numbers -> (B * T, tags) log probabilities."""

    def __init__(self, params):
        super(Net, self).__init__()
        self.embedding = nn.Embedding(params.vocab_size, params.embedding_dim)
        self.recurrent = nn.GRU(params.embedding_dim, params.hidden_dim, batch_first=True)
        self.fc = nn.Linear(params.hidden_dim, params.number_of_tags)

    def forward(self, s):
        s, _ = self.recurrent(self.embedding(s))  # -> B x T x hidden_dim
        s = s.contiguous().view(-1, s.shape[2])  # -> B*T x hidden_dim
        return F.log_softmax(self.fc(s), dim=1)


def loss_fn(outputs, labels):
    """The mean negative log likelihood of the words, the padding left out"""
    labels = labels.view(-1)
    mask = (labels >= 0).float()
    chosen = outputs[range(outputs.shape[0]), labels % outputs.shape[1]]
    return -torch.sum(chosen * mask) / int(torch.sum(mask))


def accuracy(outputs, labels):
    """The share of words with the right tag, the padding left out"""
    labels = labels.ravel()
    return np.sum(np.argmax(outputs, axis=1) == labels) / float(np.sum(labels >= 0))


metrics = {
    "accuracy": accuracy,
}
