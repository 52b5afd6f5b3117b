"""DeepJet: dense layers on each constituent, an LSTM over the constituents of each group, dense layers on the jet.

Bols, Kieseler, Verzetti, Stoye, Stakia, arXiv:2008.10519. Sizes and order of the layers are those of
DL4Jets/DeepJet:modules/models/convolutional.py (`model_deepFlavourReference`) and of its PyTorch form, on which the
trainings of the framework paper (arXiv:2306.17846) rest: a "convolution of width 1" is a linear layer on each
constituent; each layer is linear, activation, batch norm, dropout, but for the last one on constituents, which has
neither norm nor dropout; the LSTM reads a jet's constituents backwards, so that the first one, the most displaced,
comes last.

The reference pads each group to 25, 25 and 4 slots with zeros, and treats the padding as constituents: it passes the
dense layers, enters the statistics of the batch norm, and an LSTM reads it before the constituents of the jet. Here,
by default, padding is never seen: statistics are those of real constituents, and an LSTM starts with the jet's last
one. The two agree for jets that fill their slots, in evaluation. With `padded=(25, 25, 4)` the network is the
reference with all of this, in evaluation and in training: for weights that come from it.

Shape suffixes: B jets, N constituents of one group (padded), T real constituents of one group of all jets, F
features, D width, H width of an LSTM, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from pfnano_tag.models.dropout import Dropout
from pfnano_tag.models.layers import ACTIVATIONS, RowNorm, exporting, first_slots, scatter_rows

EPS = 1e-3
"""Added to variances by the batch norm, as in the reference (Keras' default)."""


@dataclass(frozen=True)
class DeepJetConfig:
    """Sizes of `DeepJet`; the defaults are those of the reference.

    Parameters
    ----------
    features : dict of str to int
        Number of features per group; `jet` holds the jet features.
    classes : int
        Output nodes.
    charged, neutral, sv : tuple of int
        Widths of the layers applied to each constituent of a group.
    other : tuple of int
        The same for any other group, which the reference has not: as for secondary vertices.
    charged_lstm, neutral_lstm, sv_lstm, other_lstm : int
        Widths of the LSTMs.
    dense : tuple of int
        Widths of the layers applied to the jet.
    padded : tuple of int
        Slots of each group, in the order of the groups, filled up with zeros that count as constituents, as in the
        reference (25, 25, 4); what does not fit is left out. Empty: padding is never seen.
    momentum : float
        Weight of a batch in the running statistics of the batch norm, in torch's convention. The PyTorch form of the
        reference has 0.6; so has the Keras form, whose convention makes it 0.4 here.
    dropout : float
        Dropout probability behind each layer that has a batch norm, LSTMs included.
    activation : str
        relu, gelu or silu.
    """

    features: dict[str, int]
    classes: int
    charged: tuple[int, ...] = (64, 32, 32, 8)
    neutral: tuple[int, ...] = (32, 16, 4)
    sv: tuple[int, ...] = (64, 32, 32, 8)
    other: tuple[int, ...] = (64, 32, 32, 8)
    charged_lstm: int = 150
    neutral_lstm: int = 50
    sv_lstm: int = 50
    other_lstm: int = 50
    dense: tuple[int, ...] = (200, 100, 100, 100, 100, 100, 100, 100)
    padded: tuple[int, ...] = ()
    momentum: float = 0.6
    dropout: float = 0.1
    activation: str = "relu"

    def __post_init__(self) -> None:
        if self.padded and len(self.padded) != len(self.groups):
            groups = ", ".join(self.groups)
            raise ValueError(f"padded: found {list(self.padded)}, expected a number for each of {groups}")
        for name in ("charged_lstm", "neutral_lstm", "sv_lstm", "other_lstm", "momentum"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected a number greater than 0")

    @property
    def groups(self) -> tuple[str, ...]:
        """Constituent groups in order."""
        return tuple(name for name in self.features if name != "jet")

    def sizes(self, group: str) -> tuple[tuple[int, ...], int]:
        """Widths of the layers on each constituent of a group, and of its LSTM."""
        named = {
            "charged": (self.charged, self.charged_lstm),
            "neutral": (self.neutral, self.neutral_lstm),
            "sv": (self.sv, self.sv_lstm),
        }
        return named.get(group, (self.other, self.other_lstm))


class ConstituentBranch(nn.Module):
    """One group: batch norm, layers on each constituent, LSTM over them, batch norm, dropout -> (B, H).

    A jet without constituents has the state in which the LSTM starts, zero. It takes part in the statistics of the
    norm behind the LSTM: there, the jets are the rows.
    """

    def __init__(self, group: str, config: DeepJetConfig) -> None:
        super().__init__()
        features = config.features[group]
        widths, state = config.sizes(group)
        self.norm = RowNorm(features, config.momentum, EPS)
        self.layers = nn.Sequential(*_layers(features, widths, config)[:-2])
        self.lstm = nn.LSTM((features, *widths)[-1], state)
        self.norm_state = RowNorm(state, config.momentum, EPS)
        self.drop = Dropout(config.dropout)

    def forward(self, x_BNF: Tensor, mask_BN: Tensor) -> Tensor:
        """Summary of each jet's constituents."""
        rows_TD = self.layers(self.norm(x_BNF[mask_BN]))
        summary_BH: Tensor = self.drop(self.norm_state(read_backwards(self.lstm, rows_TD, mask_BN)))
        return summary_BH


class DeepJet(nn.Module):
    """`head(dense([norm(jet), branch_g(x) for each group g]))` -> logits.

    The output depends on the order of the constituents, which is the input specification's: most displaced first. In
    training it depends on the other jets of the batch, by the batch norm.
    """

    needs_vectors: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ()
    wants_buckets: ClassVar[bool] = False
    cuts_batches: ClassVar[bool] = False

    def __init__(self, config: DeepJetConfig) -> None:
        super().__init__()
        self.config = config
        jet = config.features.get("jet", 0)
        self.norm = RowNorm(jet, config.momentum, EPS) if jet else nn.Identity()
        self.branches = nn.ModuleDict({group: ConstituentBranch(group, config) for group in config.groups})
        width = jet + sum(config.sizes(group)[1] for group in config.groups)
        self.dense = nn.Sequential(*_layers(width, config.dense, config))
        self.head = nn.Linear((width, *config.dense)[-1], config.classes)

    def forward(
        self,
        jet_BF: Tensor,
        x: dict[str, Tensor],
        mask: dict[str, Tensor],
        vectors: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Logits (B, K); `vectors` are not used."""
        if self.config.padded:
            x, mask = self._fill_slots(x, mask)
        parts = [self.norm(jet_BF)]
        parts += [branch(x[group], mask[group]) for group, branch in self.branches.items()]
        logits_BK: Tensor = self.head(self.dense(torch.cat(parts, dim=1)))
        return logits_BK

    def _fill_slots(
        self, x: dict[str, Tensor], mask: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Every jet with as many constituents as there are slots, zeros among them."""
        filled, everywhere = {}, {}
        for group, slots in zip(self.config.groups, self.config.padded, strict=True):
            filled[group], real_BS = first_slots(x[group], mask[group], slots)
            everywhere[group] = torch.ones_like(real_BS)
        return filled, everywhere


def read_backwards(lstm: nn.LSTM, rows_TD: Tensor, mask_BN: Tensor) -> Tensor:
    """Last state of an LSTM that reads the constituents of each jet from the last to the first.

    Parameters
    ----------
    lstm : nn.LSTM
        One layer, one direction, not `batch_first`.
    rows_TD : Tensor
        Constituents of all jets, in the order of `x_BNF[mask_BN]`.
    mask_BN : Tensor
        bool, True for real constituents.

    Returns
    -------
    Tensor
        (B, H); zero for jets without constituents.
    """
    if exporting():
        return _read_padded(lstm, rows_TD, mask_BN)
    state_BH = rows_TD.new_zeros(len(mask_BN), lstm.hidden_size)
    if not len(rows_TD):
        return state_BH
    filled = mask_BN.any(1).nonzero().squeeze(1)  # the LSTM takes no empty sequences
    mask_BN = mask_BN[filled]
    counts_B = mask_BN.sum(1)
    steps, size = int(counts_B.max()), len(filled)
    step_BN = counts_B[:, None] - mask_BN.cumsum(1)
    slots_T = (step_BN * size + torch.arange(size, device=mask_BN.device)[:, None])[mask_BN]
    sequence = scatter_rows(rows_TD, slots_T, steps * size).view(steps, size, -1)
    packed = pack_padded_sequence(sequence, counts_B.cpu(), enforce_sorted=False)
    _, (last, _) = lstm(packed)
    return state_BH.index_copy(0, filled, last[0])


def _read_padded(lstm: nn.LSTM, rows_TD: Tensor, mask_BN: Tensor) -> Tensor:
    """The same with padding behind the constituents, which are read first: the state behind a jet's last step."""
    size, steps = mask_BN.shape
    counts_B = mask_BN.sum(1)
    jet_B = torch.arange(size, device=mask_BN.device)
    slots_T = ((counts_B[:, None] - mask_BN.cumsum(1)) * size + jet_B[:, None])[mask_BN]
    states, _ = lstm(scatter_rows(rows_TD, slots_T, steps * size).view(steps, size, -1))
    last_BH = states.flatten(0, 1).index_select(0, (counts_B - 1).clamp(min=0) * size + jet_B)
    return torch.where((counts_B > 0)[:, None], last_BH, 0.0)


def _layers(width_in: int, widths: tuple[int, ...], config: DeepJetConfig) -> list[nn.Module]:
    """Linear layers, each followed by the activation, batch norm and dropout."""
    layers: list[nn.Module] = []
    for width_out in widths:
        layers += [nn.Linear(width_in, width_out), ACTIVATIONS[config.activation]()]
        layers += [RowNorm(width_out, config.momentum, EPS), Dropout(config.dropout)]
        width_in = width_out
    return layers
