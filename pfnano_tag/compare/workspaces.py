"""What fitting programs read besides templates: a text datacard for Combine, a JSON workspace for pyhf and cabinetry.

Both say the same: one channel per region, one process per flavour or dataset, the signal's rate free, every
systematic source a shape variation of all processes, statistical uncertainties of the templates bin by bin. Rates of
backgrounds are fixed to the luminosity: who fits them adds rate parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pfnano_tag.analyze.result import Array

STRENGTH = "mu"
"""Name of the signal's rate over the simulated one."""


@dataclass(frozen=True)
class Process:
    """The templates of one process in one channel.

    Parameters
    ----------
    values, variances : ndarray of float64 [bins]
        Nominal, and its statistical variances.
    varied : dict of (ndarray of float64 [bins], ndarray of float64 [bins])
        Up and down, by systematic source.
    """

    values: Array
    variances: Array
    varied: dict[str, tuple[Array, Array]] = field(default_factory=dict)


@dataclass(frozen=True)
class Channel:
    """One region: counts in data and the processes of simulation.

    Parameters
    ----------
    name : str
        Of the region.
    observed : ndarray of float64 [bins]
        Counts.
    processes : dict of Process
        By name.
    """

    name: str
    observed: Array
    processes: dict[str, Process]


def datacard(channels: Sequence[Channel], signal: str, root_file: str) -> str:
    """Return a datacard of Combine, whose templates lie in a ROOT file beside it.

    Parameters
    ----------
    channels : sequence of Channel
        At least one.
    signal : str
        Process whose rate is measured.
    root_file : str
        Name of the ROOT file: `CHANNEL/PROCESS`, `CHANNEL/PROCESS_SOURCEUp`, `CHANNEL/data_obs`.
    """
    number = numbers_of(channels, signal)
    columns = [(channel.name, process) for channel in channels for process in channel.processes]
    sources = sources_in(channels)
    rows = [
        ["bin", *(channel for channel, _ in columns)],
        ["process", *(process for _, process in columns)],
        ["process", *(str(number[process]) for _, process in columns)],
        ["rate", *("-1" for _ in columns)],
    ]
    shapes = [[f"{source} shape", *_affected(channels, source)] for source in sources]
    observed = [
        ["bin", *(channel.name for channel in channels)],
        ["observation", *("-1" for _ in channels)],
    ]
    rule = "-" * 40
    return "\n".join(
        [
            f"imax {len(channels)} channels",
            f"jmax {len(number) - 1} processes besides the signal",
            f"kmax {len(sources)} sources of systematic uncertainty",
            rule,
            f"shapes * * {root_file} $CHANNEL/$PROCESS $CHANNEL/$PROCESS_$SYSTEMATIC",
            rule,
            *aligned(observed),
            rule,
            *aligned([*rows, *shapes])[: len(rows)],
            rule,
            *aligned([*rows, *shapes])[len(rows) :],
            *(f"{channel.name} autoMCStats 10" for channel in channels),
            "",
        ]
    )


def numbers_of(channels: Sequence[Channel], signal: str) -> dict[str, int]:
    """Return Combine's numbers of processes: 0 for the signal, rising from 1 for the others."""
    others = dict.fromkeys(name for channel in channels for name in channel.processes if name != signal)
    return {signal: 0} | {name: i for i, name in enumerate(others, 1)}


def sources_in(channels: Sequence[Channel]) -> list[str]:
    """Return the systematic sources of any process, in their order."""
    return list(
        dict.fromkeys(
            source for channel in channels for process in channel.processes.values() for source in process.varied
        )
    )


def _affected(channels: Sequence[Channel], source: str) -> list[str]:
    return ["1" if source in one.varied else "-" for channel in channels for one in channel.processes.values()]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def workspace(channels: Sequence[Channel], signal: str, name: str) -> dict[str, Any]:
    """Return a workspace of pyhf (HistFactory in JSON, version 1.0.0).

    Parameters
    ----------
    channels : sequence of Channel
        At least one.
    signal : str
        Process whose rate is measured (`mu`).
    name : str
        Of the measurement.
    """
    return {
        "channels": [
            {
                "name": channel.name,
                "samples": [
                    {
                        "name": process,
                        "data": content.values.tolist(),
                        "modifiers": _modifiers(channel.name, content, process == signal),
                    }
                    for process, content in channel.processes.items()
                ],
            }
            for channel in channels
        ],
        "observations": [{"name": channel.name, "data": channel.observed.tolist()} for channel in channels],
        "measurements": [{"name": name, "config": {"poi": STRENGTH, "parameters": []}}],
        "version": "1.0.0",
    }


def _modifiers(channel: str, content: Process, is_signal: bool) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = [
        {"name": source, "type": "histosys", "data": {"hi_data": up.tolist(), "lo_data": down.tolist()}}
        for source, (up, down) in content.varied.items()
    ]
    # One name per channel: the processes of a bin share one statistical parameter (Barlow-Beeston lite).
    errors = content.variances**0.5
    found.append({"name": f"staterror_{channel}", "type": "staterror", "data": errors.tolist()})
    if is_signal:
        found.append({"name": STRENGTH, "type": "normfactor", "data": None})
    return found
