"""Deep sets: one network per constituent group, a pooling that ignores order, one network for the jet.

Zaheer et al., arXiv:1703.06114; energy/particle flow networks, Komiske et al., arXiv:1810.05165 (PFN);
ATLAS DIPS, ATL-PHYS-PUB-2020-014. The pooling is the sum and the mean over real constituents.

Shape suffixes: B jets, N constituents (padded), T real constituents of all jets, F features, D width, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pfnano_tag.models.layers import dense_stack


@dataclass(frozen=True)
class DeepSetsConfig:
    """Sizes of `DeepSets`.

    Parameters
    ----------
    features : dict of str to int
        Number of features per group; `jet` holds the jet features.
    classes : int
        Output nodes.
    phi : tuple of int
        Widths of the layers applied to each constituent.
    rho : tuple of int
        Widths of the layers applied to the pooled jet.
    norm : bool
        Layer norm after each linear layer.
    dropout : float
        Dropout probability in `rho`.
    activation : str
        relu, gelu or silu.
    """

    features: dict[str, int]
    classes: int
    phi: tuple[int, ...] = (64, 64)
    rho: tuple[int, ...] = (128, 64)
    norm: bool = True
    dropout: float = 0.0
    activation: str = "relu"


class DeepSets(nn.Module):
    """`rho([jet, sum phi_g(x), mean phi_g(x) for each group g])` -> logits.

    `phi` runs on real constituents only; a group without any pools to zero.
    """

    needs_vectors: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ()
    wants_buckets: ClassVar[bool] = False
    cuts_batches: ClassVar[bool] = False

    def __init__(self, config: DeepSetsConfig) -> None:
        super().__init__()
        self.config = config
        groups = {name: width for name, width in config.features.items() if name != "jet"}
        # Sums grow with multiplicity: 0.1 brings them to the size of the means (about ten constituents a jet).
        self.sum_scale = 0.1
        self.phi = nn.ModuleDict(
            {
                name: dense_stack(width, config.phi, config.activation, config.norm, 0.0)
                for name, width in groups.items()
            }
        )
        width = config.features.get("jet", 0) + 2 * len(groups) * config.phi[-1]
        self.rho = dense_stack(width, config.rho, config.activation, config.norm, config.dropout)
        self.head = nn.Linear(config.rho[-1] if config.rho else width, config.classes)

    def forward(
        self,
        jet_BF: Tensor,
        x: dict[str, Tensor],
        mask: dict[str, Tensor],
        vectors: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Logits (B, K); `vectors` are not used."""
        pooled = [jet_BF]
        for name, phi in self.phi.items():
            pooled += self._pool(phi, x[name], mask[name])
        logits_BK: Tensor = self.head(self.rho(torch.cat(pooled, dim=1)))
        return logits_BK

    def _pool(self, phi: nn.Module, x_BNF: Tensor, mask_BN: Tensor) -> list[Tensor]:
        counts_B = mask_BN.sum(1)
        jet_T = torch.arange(len(counts_B), device=counts_B.device).repeat_interleave(counts_B)
        phi_TD = phi(x_BNF[mask_BN])
        sum_BD = phi_TD.new_zeros(len(counts_B), phi_TD.shape[1]).index_add(0, jet_T, phi_TD)
        return [self.sum_scale * sum_BD, sum_BD / counts_B.clamp(min=1)[:, None]]
