"""What an attack may not do: which inputs may move at all, and how far.

Protected features (integers, flags, puppi weight, track chi2), placeholders and padding keep their value bit for
bit. A mask per value decides, not a comparison with the placeholder's value: a genuine zero may move.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pfnano_tag.models.batch import Batch
from pfnano_tag.nano.schema import LOG_SCALES
from pfnano_tag.prepare.inputs import InputFeature, InputSpec

Values = Mapping[str, Tensor]


def movable(batch: Batch, spec: InputSpec) -> dict[str, Tensor]:
    """Which inputs an attack may change.

    Parameters
    ----------
    batch : Batch
        Jets.
    spec : InputSpec
        Inputs of the network, in the order of the batch's columns.

    Returns
    -------
    dict of str to Tensor
        bool masks in the shapes of `batch.inputs`.
    """
    device = batch.jet_BF.device
    defaults = {"jet": batch.jet_default_BF} | {name: group.default_BNF for name, group in batch.groups.items()}
    # padding counts as a placeholder
    return {name: ~_either(default, _protected(spec, name).to(device)) for name, default in defaults.items()}


def _either(values: Tensor, row_F: Tensor) -> Tensor:
    """`values | row_F`; broadcast over whole jets, which is faster than over short rows of features."""
    jets = values.flatten(1)
    return (jets | row_F.repeat(jets.shape[1] // max(1, len(row_F)))).view_as(values)


def shifted(batch: Batch, shift: Values, allowed: Values) -> Batch:
    """The batch with `x + shift` where allowed and x itself, bit for bit, elsewhere."""
    return moved(batch, {name: x + shift[name] for name, x in batch.inputs.items()}, allowed)


def moved(batch: Batch, values: Values, allowed: Values) -> Batch:
    """The batch with new values where allowed and its own, bit for bit, elsewhere."""
    new = {name: torch.where(allowed[name], values[name], x) for name, x in batch.inputs.items()}
    jet_BF = new.pop("jet")
    return batch.with_inputs(jet_BF, new)


def restrict(attacked: Batch, nominal: Batch, spec: InputSpec, impact: float) -> Batch:
    """Bound the change of every input to a fraction of its value, in the feature's own units.

    Where `|v' - v| > r |v|` the value becomes `v + r |v| sign(v' - v)` (Stein et al., arXiv:2203.13890, code);
    all other inputs keep their bits.

    Parameters
    ----------
    attacked, nominal : Batch
        The same jets with and without the attack.
    spec : InputSpec
        Inputs of the network: scaling and transform, which are undone and redone.
    impact : float
        The fraction r.
    """
    new = {}
    for name, x in nominal.inputs.items():
        moved_x, features = attacked.inputs[name], spec.groups.get(name, ())
        value, moved_value = in_units(x, features), in_units(moved_x, features)
        bound = impact * value.abs()
        change = moved_value - value
        bounded = in_scaled(value + change.clamp(-bound, bound), features).to(x.dtype)
        new[name] = torch.where(change.abs() > bound, bounded, moved_x)
    jet_BF = new.pop("jet")
    return attacked.with_inputs(jet_BF, new)


def in_units(x: Tensor, features: tuple[InputFeature, ...]) -> Tensor:
    """Scaled inputs in the features' own units, float64; the last axis runs over features."""
    mean, std, scale = (column.to(x.device) for column in _scaling(features))
    value = x.double() * std + mean
    logarithmic = scale > 0
    return torch.where(logarithmic, value.sign() * value.abs().expm1() / scale.where(logarithmic, 1.0), value)


def in_scaled(value: Tensor, features: tuple[InputFeature, ...]) -> Tensor:
    """The inverse of `in_units`, float64."""
    mean, std, scale = (column.to(value.device) for column in _scaling(features))
    transformed = torch.where(scale > 0, value.sign() * (scale * value.abs()).log1p(), value)
    return (transformed - mean) / std


def _protected(spec: InputSpec, group: str) -> Tensor:
    """Which features of a group no attack may change, bool (F,)."""
    return torch.tensor([feature.protected for feature in spec.groups.get(group, ())], dtype=torch.bool)


def _scaling(features: tuple[InputFeature, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and scale of the logarithm (0: none), each float64 (F,)."""
    mean = torch.tensor([feature.mean for feature in features], dtype=torch.float64)
    std = torch.tensor([feature.std for feature in features], dtype=torch.float64)
    scale = torch.tensor([LOG_SCALES.get(feature.transform, 0.0) for feature in features], dtype=torch.float64)
    return mean, std, scale
