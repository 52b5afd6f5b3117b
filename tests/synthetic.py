"""Small synthetic inputs: a specification with protected, integer and logarithmic features, and random jets."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pfnano_tag.models.batch import FlatInputs, GroupInputs
from pfnano_tag.prepare.inputs import InputFeature, InputSpec
from pfnano_tag.train.dataloader import LabelledInputs

torch.set_num_threads(1)  # small tensors: more threads only wait for each other

CLASSES = ("b", "bb", "lepb", "c", "uds", "g")


def feature(
    identifier: str, transform: str = "none", mean: float = 0.0, std: float = 1.0, **flags: bool
) -> InputFeature:
    return InputFeature(
        id=identifier,
        name=identifier.partition("/")[2],
        transform=transform,
        mean=mean,
        std=std,
        default=flags.get("default", -3.0),
        protected=flags.get("protected", False),
        integer=flags.get("integer", False),
        live=True,
    )


def specification() -> InputSpec:
    return InputSpec(
        set="constituents",
        groups={
            "jet": (
                feature("jet/pt", "log", 4.0, 0.8),
                feature("jet/eta", std=1.2),
                feature("jet/nCpfcand", mean=8.0, std=4.0, protected=True, integer=True),
            ),
            "charged": (
                feature("charged/trackSip3dVal", "log100", 0.3, 1.5),
                feature("charged/trackSip3dSig", "log", 0.5, 1.0),
                feature("charged/quality", mean=3.0, std=2.0, protected=True, integer=True),
                feature("charged/ptrel", mean=-0.9, std=0.1),
            ),
            "neutral": (
                feature("neutral/ptrel", mean=-0.9, std=0.1),
                feature("neutral/isGamma", protected=True, integer=True),
            ),
            "sv": (feature("sv/mass", "log", 1.0, 0.5), feature("sv/d3dsig", "log", 2.0, 1.0)),
        },
        caps={"charged": 25, "neutral": 25, "sv": 5},
        candidate_pt=0.95,
    )


def features() -> dict[str, int]:
    return {group: len(columns) for group, columns in specification().groups.items()}


def constituents(counts: Tensor, features: int, generator: torch.Generator) -> GroupInputs:
    offsets = torch.zeros(len(counts) + 1, dtype=torch.int64)
    offsets[1:] = counts.cumsum(0)
    total = int(offsets[-1])
    momentum = torch.randn(total, 3, generator=generator) * torch.tensor([8.0, 8.0, 15.0])
    energy = (momentum.square().sum(1, keepdim=True) + 0.1396**2).sqrt()
    return GroupInputs(
        torch.randn(total, features, generator=generator),
        torch.rand(total, features, generator=generator) < 0.1,
        offsets,
        torch.cat([momentum, energy], 1),
    )


def random_jets(count: int, seed: int = 0) -> FlatInputs:
    """Jets without meaning; some have no constituents of a group, the first has none at all."""
    generator = torch.Generator().manual_seed(seed)
    highest = {"charged": 12, "neutral": 9, "sv": 3}
    sizes = features()
    groups = {}
    for name, most in highest.items():
        counts = torch.randint(0, most, (count,), generator=generator)
        counts[:1] = 0
        groups[name] = constituents(counts, sizes[name], generator)
    jet = torch.randn(count, sizes["jet"], generator=generator)
    return FlatInputs(jet, torch.rand(count, sizes["jet"], generator=generator) < 0.1, groups)


def labelled_jets(count: int, seed: int = 0, separation: float = 1.0) -> LabelledInputs:
    """Six classes that differ in the mean of the charged features; weights are not uniform."""
    flat = random_jets(count, seed)
    generator = torch.Generator().manual_seed(seed + 1000)
    label = torch.randint(0, len(CLASSES), (count,), generator=generator)
    centre = torch.linspace(-separation, separation, len(CLASSES))[label]
    charged = flat.groups["charged"]
    charged.x_NF[:, :2] += centre.repeat_interleave(charged.counts)[:, None]
    flat.jet_JF[:, 1] += centre * (label % 2)
    weight = 0.5 + torch.rand(count, generator=generator)
    return LabelledInputs(flat, label, weight)


def with_targets(jets: LabelledInputs, seed: int = 0) -> LabelledInputs:
    """The same jets with truth targets that their features tell something of; some are not known."""
    generator = torch.Generator().manual_seed(seed + 2000)
    charged = jets.inputs.groups["charged"]
    rows = len(charged.x_NF)
    origin = (charged.x_NF[:, 0] * 1.5 + 3).long().clamp(0, 5)
    vertex = torch.where(charged.x_NF[:, 1] > 0, 0, 1 + torch.arange(rows))  # one common vertex, the others alone
    ratio = 1 + 0.2 * jets.inputs.jet_JF[:, 0] + 0.05 * torch.randn(len(jets), generator=generator)
    origin[torch.rand(rows, generator=generator) < 0.1] = -1
    vertex[torch.rand(rows, generator=generator) < 0.1] = -1
    ratio[torch.rand(len(jets), generator=generator) < 0.1] = torch.nan
    return replace(jets, targets={"charged/origin": origin, "charged/vertex": vertex, "jet/pt_ratio": ratio})


TASKS = {
    "origin": {"kind": "constituents", "target": "charged/origin", "hidden": [8], "weight": 0.5},
    "vertexing": {"kind": "edges", "target": "charged/vertex", "hidden": [8, 4], "weight": 1.5},
    "response": {"kind": "regression", "target": "jet/pt_ratio", "hidden": [8]},
    "b_response": {"kind": "gaussian", "target": "jet/pt_ratio", "hidden": [], "flavours": ["b", "lepb"]},
}
"""One of each kind."""
