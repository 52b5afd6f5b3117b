"""A merged variable taken apart: what is compared with each other, one region, model and variant at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pfnano_tag.analyze.result import NO_REPLICA, NOMINAL, Array
from pfnano_tag.compare.agreement import Sample
from pfnano_tag.compare.blinding import Mask, without
from pfnano_tag.compare.merging import Rows, total
from pfnano_tag.compare.shifts import shifts_of


@dataclass(frozen=True)
class Part:
    """One region, model and variant of a variable.

    Parameters
    ----------
    region, model, variant : str
        As in the category.
    simulation, data : Rows
        Nominal; replicas included.
    varied : dict of Rows
        Simulation by systematic variation.
    """

    region: str
    model: str
    variant: str
    simulation: Rows = field(default_factory=dict)
    data: Rows = field(default_factory=dict)
    varied: dict[str, Rows] = field(default_factory=dict)

    def yields(self, hidden: Mask) -> tuple[float, float]:
        """Return the yields of data and simulation outside the hidden bins."""
        seen, expected = (total(plain(rows))[0] for rows in (self.data, self.simulation))
        return float(seen[~hidden].sum()), float(expected[~hidden].sum())

    def scales(self, hidden: Mask) -> dict[str, float]:
        """Return the yield of data over that of simulation outside the hidden bins, nominal and for each variation.

        1 where one of them is empty.
        """
        seen = float(total(plain(self.data))[0][~hidden].sum())
        found = {}
        for name, rows in self.simulated.items():
            expected = float(total(plain(rows))[0][~hidden].sum())
            found[name] = seen / expected if seen > 0 and expected > 0 else 1.0
        return found

    @property
    def simulated(self) -> dict[str, Rows]:
        """Simulation by name on the systematic axis, nominal first."""
        return {NOMINAL: self.simulation, **self.varied}

    def shifts(self, scales: dict[str, float]) -> Array | None:
        """Return the shifts by the systematic sources, float64 [sources, bins + 2]; None without variations.

        Parameters
        ----------
        scales : dict
            Factor of nominal and each variation: from `scales`; empty: none is scaled.
        """
        if not self.varied:
            return None
        return shifts_of(
            {name: total(plain(rows))[0] * scales.get(name, 1.0) for name, rows in self.simulated.items()}
        )

    def samples(self, hidden: Mask) -> tuple[Sample, Sample]:
        """Return data and simulation, summed over components, with nothing in the hidden bins."""
        return sample(without(self.data, hidden)), sample(without(self.simulation, hidden))


def parts_of(simulation: Rows, data: Rows) -> Iterator[Part]:
    """Yield the parts of a variable, in the order of simulation's categories."""
    found: dict[tuple[str, str, str], Part] = {}
    for rows, simulated in ((simulation, True), (data, False)):
        for category, content in rows.items():
            place = category.region, category.model, category.variant
            part = found.setdefault(place, Part(*place))
            if category.systematic == NOMINAL:
                (part.simulation if simulated else part.data)[category] = content
            elif simulated:
                part.varied.setdefault(category.systematic, {})[category] = content
    yield from found.values()


def plain(rows: Rows) -> Rows:
    """Return rows without the replicas."""
    return {category: content for category, content in rows.items() if category.replica == NO_REPLICA}


def sample(rows: Rows) -> Sample:
    """Return the sum over flavours, with the replicas where there are any."""
    values, variances = total(plain(rows))
    replicas: dict[int, list[Any]] = {}
    for category, (replica, _) in rows.items():
        if category.replica != NO_REPLICA:
            replicas.setdefault(category.replica, []).append(replica)
    stacked = np.array([np.sum(replicas[i], axis=0) for i in sorted(replicas)]) if replicas else None
    return Sample(values, variances, stacked)
