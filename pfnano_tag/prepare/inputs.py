"""The input specification: what a network sees, in which order, how placed and scaled.

It is derived once, by `prepare`, and carried by `prepared.json` and by every checkpoint: conversion, attacks and
plots ask it and nothing else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pfnano_tag.nano.schema import FEATURES, Feature, declare


@dataclass(frozen=True)
class InputFeature:
    """One column of the network's input.

    Parameters
    ----------
    id : str
        `group/name`.
    name : str
        Name inside its group.
    transform : str
        Transform before scaling, `none` or a logarithm of the feature table.
    mean, std : float
        Of the transformed values in the training split without placeholders; 0 and 1 where `live` is false.
    default : float
        What a placeholder becomes in the scaled input (see `prepare.defaults`).
    protected : bool
        Never attacked.
    integer : bool
        Whole numbers before scaling.
    live : bool
        False where training had no two different values: the column is then 0 and counts as a placeholder.
    low, high : float or None
        Bounds in the feature's own unit.
    unit, label : str
        For people: unit and axis label (LaTeX).
    placeholder, replacement : float
        What the feature is, in its own unit, where it has no value, and where the file's is not finite.
    axis : tuple of (int, float, float)
        Bins and ends of plots.
    """

    id: str
    name: str
    transform: str
    mean: float
    std: float
    default: float
    protected: bool
    integer: bool
    live: bool
    low: float | None = None
    high: float | None = None
    unit: str = ""
    label: str = ""
    placeholder: float = 0.0
    replacement: float = 0.0
    axis: tuple[int, float, float] = (100, 0.0, 1.0)

    @property
    def group(self) -> str:
        """Group of the feature: `jet`, `charged`, `neutral` or `sv`."""
        return self.id.partition("/")[0]


@dataclass(frozen=True)
class InputSpec:
    """All inputs of a network, group by group, in the order of its columns.

    Parameters
    ----------
    set : str
        Name of the input set.
    groups : dict of tuple of InputFeature
        By group; `jet` first.
    caps : dict of int
        Constituents kept per jet, by group.
    candidate_pt : float
        Lowest transverse momentum of a candidate [GeV].
    droppable : tuple of str
        Features that may be missing in a file (they are then placeholders).
    jet_types : tuple of str
        Pile-up treatment of the training jets (`CHS`, `PUPPI`, `AK8`), as far as the files tell.
    """

    set: str
    groups: dict[str, tuple[InputFeature, ...]]
    caps: dict[str, int]
    candidate_pt: float
    droppable: tuple[str, ...] = ()
    jet_types: tuple[str, ...] = ()

    @property
    def features(self) -> tuple[InputFeature, ...]:
        """All features in order."""
        return tuple(feature for group in self.groups.values() for feature in group)

    @property
    def ids(self) -> tuple[str, ...]:
        """Identifiers of all features in order."""
        return tuple(feature.id for feature in self.features)

    @property
    def needed(self) -> tuple[str, ...]:
        """Identifiers that a file must be able to give: live ones that the card did not name as droppable."""
        return tuple(f.id for f in self.features if f.live and f.id not in self.droppable)

    def declare(self) -> None:
        """Add features that the table lacks, of a study with its own, to the table."""
        declare(
            Feature(
                group=f.group,  # type: ignore[arg-type]
                name=f.name,
                unit=f.unit,
                label=f.label,
                axis=(f.axis[0], f.axis[1], f.axis[2]),
                default=f.placeholder,
                replacement=f.replacement,
                low=f.low,
                high=f.high,
                transform=f.transform,
                protected=f.protected,
                integer=f.integer,
            )
            for f in self.features
            if f.id not in FEATURES
        )

    def to_json(self) -> dict[str, Any]:
        """Return the specification as JSON content; floats keep all digits."""
        return {
            "set": self.set,
            "groups": {name: [asdict(feature) for feature in group] for name, group in self.groups.items()},
            "caps": dict(self.caps),
            "candidate_pt": self.candidate_pt,
            "droppable": list(self.droppable),
            "jet_types": list(self.jet_types),
        }

    @staticmethod
    def from_json(content: dict[str, Any]) -> InputSpec:
        """Return the specification from JSON content.

        Raises
        ------
        KeyError, TypeError, ValueError
            When the content is no input specification.
        """
        groups = {
            name: tuple(InputFeature(**{**f, "axis": tuple(f.get("axis", (100, 0.0, 1.0)))}) for f in group)
            for name, group in content["groups"].items()
        }
        wrong = [f.id for name, group in groups.items() for f in group if f.group != name]
        if wrong:
            raise ValueError(f"features in the wrong group: {', '.join(wrong)}")
        return InputSpec(
            set=str(content["set"]),
            groups=groups,
            caps={str(name): int(cap) for name, cap in content["caps"].items()},
            candidate_pt=float(content["candidate_pt"]),
            droppable=tuple(content["droppable"]),
            jet_types=tuple(str(name) for name in content.get("jet_types", ())),
        )
