"""Sentences of tagged words, handed out by a class as the course's text example did it in 2018."""
# ruff: noqa  # in the manner of its time

import os
import random

import numpy as np
import torch
from torch.autograd import Variable

import utils


class DataLoader(object):
    """Knows the words and the tags by their numbers, reads sentences and makes batches of them."""

    def __init__(self, data_dir, params):
        params_file = os.path.join(data_dir, "dataset_params.json")
        if not os.path.isfile(params_file):
            raise IOError("{} is not there: build the vocabulary first".format(params_file))
        self.dataset_params = utils.Params(params_file)
        self.words = self.read_vocabulary(os.path.join(data_dir, "words.txt"))
        self.tags = self.read_vocabulary(os.path.join(data_dir, "tags.txt"))
        self.unknown = self.words[self.dataset_params.unk_word]
        self.padding = self.words[self.dataset_params.pad_word]
        params.update(params_file)  # the network asks params for the sizes

    def read_vocabulary(self, path):
        """One entry per line; its number is that of its line"""
        with open(path) as f:
            return {entry.rstrip("\n"): number for number, entry in enumerate(f)}

    def load_data(self, types, data_dir):
        """A dict with data, labels and size for each of the splits in types"""
        loaded = {}
        for split in types:
            sentences, labels = [], []
            with open(os.path.join(data_dir, "{}.txt".format(split))) as f:
                for line in f:
                    pairs = [pair.split("/") for pair in line.split()]
                    sentences.append([self.words.get(word, self.unknown) for word, _ in pairs])
                    labels.append([self.tags[tag] for _, tag in pairs])
            loaded[split] = {"data": sentences, "labels": labels, "size": len(sentences)}
        return loaded

    def data_iterator(self, data, params, shuffle=False):
        """Batches for one pass: sentences filled up with padding, their labels with -1"""
        order = list(range(data["size"]))
        if shuffle:
            random.seed(230)
            random.shuffle(order)

        for start in range(0, (data["size"] + 1) // params.batch_size * params.batch_size, params.batch_size):
            chosen = order[start : start + params.batch_size]
            longest = max(len(data["data"][index]) for index in chosen)
            batch = np.full((len(chosen), longest), self.padding)
            labels = np.full((len(chosen), longest), -1)
            for row, index in enumerate(chosen):
                length = len(data["data"][index])
                batch[row, :length] = data["data"][index]
                labels[row, :length] = data["labels"][index]

            batch, labels = torch.LongTensor(batch), torch.LongTensor(labels)
            if params.cuda:
                batch, labels = batch.cuda(), labels.cuda()
            yield Variable(batch), Variable(labels)
