"""Two convolutions, a hand-written loss and NumPy metrics, as the course did it in 2018."""
# ruff: noqa  # in the manner of its time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    """(B, 3, 16, 16) pictures -> (B, classes) log probabilities."""

    def __init__(self, params):
        super(Net, self).__init__()
        self.num_channels = params.num_channels
        self.conv1 = nn.Conv2d(3, self.num_channels, 3, stride=1, padding=1)
        self.bn1 = nn.BatchNorm2d(self.num_channels)
        self.conv2 = nn.Conv2d(self.num_channels, self.num_channels * 2, 3, stride=1, padding=1)
        self.bn2 = nn.BatchNorm2d(self.num_channels * 2)
        self.fc = nn.Linear(4 * 4 * self.num_channels * 2, params.num_classes)
        self.dropout_rate = params.dropout_rate

    def forward(self, s):
        s = F.relu(F.max_pool2d(self.bn1(self.conv1(s)), 2))  # -> B x num_channels x 8 x 8
        s = F.relu(F.max_pool2d(self.bn2(self.conv2(s)), 2))  # -> B x num_channels*2 x 4 x 4
        s = s.view(-1, 4 * 4 * self.num_channels * 2)
        s = F.dropout(s, p=self.dropout_rate, training=self.training)
        return F.log_softmax(self.fc(s), dim=1)


def loss_fn(outputs, labels):
    """The mean negative log likelihood of the batch"""
    num_examples = outputs.size()[0]
    return -torch.sum(outputs[range(num_examples), labels]) / num_examples


def accuracy(outputs, labels):
    """The share of pictures that are labelled right"""
    return np.sum(np.argmax(outputs, axis=1) == labels) / float(labels.size)


metrics = {
    "accuracy": accuracy,
}
