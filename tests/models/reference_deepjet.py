"""DeepJet as its authors' PyTorch form computes it, written with torch's own layers over zero-padded inputs.

Kernel-1 convolutions over padded slots, `nn.LSTM` over the flipped slots, torch's batch norm: nothing of the package.
Layers and sizes: DL4Jets/DeepJet:modules/models/convolutional.py, `model_deepFlavourReference`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

CONVOLUTIONS = {"charged": (64, 32, 32, 8), "neutral": (32, 16, 4), "sv": (64, 32, 32, 8)}
LSTMS = {"charged": 150, "neutral": 50, "sv": 50}
DENSE = (200, 100, 100, 100, 100, 100, 100, 100)
SLOTS = {"charged": 25, "neutral": 25, "sv": 4}
FEATURES = {"jet": 15, "charged": 16, "neutral": 6, "sv": 12}


class ReferenceDeepJet(nn.Module):
    """Takes jet features (B, 15) and padded groups (B, slots, features); remembers what its stages gave."""

    def __init__(self, dropout=0.1):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.jet_norm = norm(FEATURES["jet"])
        self.input_norm = nn.ModuleDict({group: norm(FEATURES[group]) for group in LSTMS})
        self.convolutions, self.norms = nn.ModuleDict(), nn.ModuleDict()
        for group, widths in CONVOLUTIONS.items():
            sizes = pairwise((FEATURES[group], *widths))
            self.convolutions[group] = nn.ModuleList(nn.Conv1d(a, b, kernel_size=1) for a, b in sizes)
            self.norms[group] = nn.ModuleList(norm(width) for width in widths[:-1])
        self.lstm = nn.ModuleDict(
            {group: nn.LSTM(CONVOLUTIONS[group][-1], width, batch_first=True) for group, width in LSTMS.items()}
        )
        self.lstm_norm = nn.ModuleDict({group: norm(width) for group, width in LSTMS.items()})
        sizes = pairwise((FEATURES["jet"] + sum(LSTMS.values()), *DENSE))
        self.dense = nn.ModuleList(nn.Linear(a, b) for a, b in sizes)
        self.dense_norm = nn.ModuleList(norm(width) for width in DENSE)
        self.last = nn.Linear(DENSE[-1], 6)
        self.stages = {}

    def forward(self, jet, groups):
        parts = [self.jet_norm(jet)]
        self.stages = {"jet": parts[0]}
        for group, x in groups.items():
            x = self.input_norm[group](x.transpose(1, 2))
            *inner, outer = self.convolutions[group]
            for number, (convolution, normalise) in enumerate(zip(inner, self.norms[group], strict=True)):
                x = self.drop(normalise(convolution(x).relu()))
                self.stages[f"{group} {number}"] = x.transpose(1, 2)
            x = outer(x).relu().transpose(1, 2)
            self.stages[f"{group} {len(inner)}"] = x
            state = self.lstm[group](torch.flip(x, dims=[1]))[0][:, -1]
            self.stages[f"{group} lstm"] = state
            parts.append(self.drop(self.lstm_norm[group](state)))
        x = torch.cat(parts, dim=1)
        self.stages["concatenated"] = x
        for number, (linear, normalise) in enumerate(zip(self.dense, self.dense_norm, strict=True)):
            x = self.drop(normalise(linear(x).relu()))
            self.stages[f"dense {number}"] = x
        return self.last(x)


def norm(width):
    return nn.BatchNorm1d(width, eps=1e-3, momentum=0.6)


def number_of_parameters():
    """From the sizes alone: linear layers with bias, norms with two numbers, LSTMs with four gates and two biases."""

    def chain(sizes):
        return sum((a + 1) * b for a, b in pairwise(sizes))

    total = 2 * FEATURES["jet"]
    for group, widths in CONVOLUTIONS.items():
        total += 2 * FEATURES[group] + chain((FEATURES[group], *widths)) + 2 * sum(widths[:-1])
        total += 4 * LSTMS[group] * (widths[-1] + LSTMS[group] + 2) + 2 * LSTMS[group]
    return total + chain((FEATURES["jet"] + sum(LSTMS.values()), *DENSE, 6)) + 2 * sum(DENSE)
