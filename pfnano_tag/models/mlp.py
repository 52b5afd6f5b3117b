"""A plain dense network on flat inputs: the jet features and a fixed number of constituents side by side.

Taggers of this kind are DeepCSV (CMS, arXiv:1712.07158) and DL1 (ATLAS, ATL-PHYS-PUB-2017-013). The default layers
are those of DeepCSV as trained in the adversarial studies of arXiv:2203.13890: five of 100, ReLU, dropout 0.1. They
were chosen over DL1's because their inputs, six tracks and one secondary vertex beside the jet's own, are in PFNano,
while DL1 combines the outputs of other ATLAS taggers; other layers are an argument `hidden` away. Neutral candidates,
which DeepCSV has not, get as many slots as charged ones, so that no group is left out unasked.

Shape suffixes: B jets, N constituents of one group (padded), S slots of one group, F features, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pfnano_tag.models.layers import dense_stack, first_slots


@dataclass(frozen=True)
class MLPConfig:
    """Sizes of `MLP`.

    Parameters
    ----------
    features : dict of str to int
        Number of features per group; `jet` holds the jet features.
    classes : int
        Output nodes.
    charged, neutral, sv : int
        Slots of each group: so many constituents of a jet are seen, the first ones; 0 leaves the group out.
    other : int
        Slots of any other group.
    occupancy : bool
        One more input per slot: 1 where it holds a constituent, else 0. Without it an empty slot looks like an
        average constituent, since scaled features have mean zero.
    hidden : tuple of int
        Widths of the hidden layers.
    norm : bool
        Layer norm after each linear layer.
    dropout : float
        Dropout probability behind each hidden layer.
    activation : str
        relu, gelu or silu.
    """

    features: dict[str, int]
    classes: int
    charged: int = 6
    neutral: int = 6
    sv: int = 1
    other: int = 6
    occupancy: bool = True
    hidden: tuple[int, ...] = (100, 100, 100, 100, 100)
    norm: bool = False
    dropout: float = 0.1
    activation: str = "relu"

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError("no inputs: there are no jet features and no group has slots")

    @property
    def slots(self) -> dict[str, int]:
        """Slots of each constituent group, in the order of the groups."""
        named = {"charged": self.charged, "neutral": self.neutral, "sv": self.sv}
        return {name: named.get(name, self.other) for name in self.features if name != "jet"}

    @property
    def inputs(self) -> int:
        """Columns of the flat input."""
        slots = sum(number * (self.features[name] + self.occupancy) for name, number in self.slots.items())
        return self.features.get("jet", 0) + slots


class MLP(nn.Module):
    """`head(hidden([jet, x of each slot, occupancy of each slot]))` -> logits.

    The output depends on the order of the constituents, which is the input specification's: most displaced first.
    """

    needs_vectors: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ()
    wants_buckets: ClassVar[bool] = False
    cuts_batches: ClassVar[bool] = False

    def __init__(self, config: MLPConfig) -> None:
        super().__init__()
        self.config = config
        self.hidden = dense_stack(config.inputs, config.hidden, config.activation, config.norm, config.dropout)
        self.head = nn.Linear((config.inputs, *config.hidden)[-1], config.classes)

    def forward(
        self,
        jet_BF: Tensor,
        x: dict[str, Tensor],
        mask: dict[str, Tensor],
        vectors: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Logits (B, K); `vectors` are not used."""
        columns = [jet_BF]
        for name, slots in self.config.slots.items():
            x_BSF, mask_BS = first_slots(x[name], mask[name], slots)
            columns.append(x_BSF.flatten(1))
            if self.config.occupancy:
                columns.append(mask_BS.to(jet_BF.dtype))
        logits_BK: Tensor = self.head(self.hidden(torch.cat(columns, dim=1)))
        return logits_BK
