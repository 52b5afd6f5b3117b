"""Pictures of the comparison: what is shown of a variable, and the words that go with it.

Flow: under- and overflow are added to the edge bins, but for scores, whose underflow holds the jets without a defined
score: these are left out and counted in the caption. Every caption names the normalisation, and what is missing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.result import NO_MODEL, NOMINAL, Array, Category, Variable
from pfnano_tag.compare.agreement import Agreement
from pfnano_tag.compare.blinding import SCORES, Mask, hidden_ranges
from pfnano_tag.compare.distances import Distance
from pfnano_tag.compare.merging import Rows, total
from pfnano_tag.compare.parts import Part
from pfnano_tag.compare.shifts import band_of

LINEAR = ("jet_eta", "num_jets", "dilepton_mass")
"""Variables that are drawn on a linear axis; all others span decades."""

CAPTION_WIDTH = 95
PER_BIN, FEWEST_BINS, TAIL = 20.0, 10, 0.025
"""Bins are drawn together, two and two or more, until there are this many entries of data per bin on average between
the quantiles TAIL and 1 - TAIL, as long as this many bins are left."""


@dataclass(frozen=True)
class Picture:
    """One stack with data, ready to be drawn (in any process).

    Parameters
    ----------
    path : Path
        PNG.
    edges : ndarray [bins + 1]
        Bin edges.
    simulation : dict
        Flavour or dataset -> (sums of weights, of squared weights), each [bins], normalised.
    data : (ndarray [bins], ndarray [bins])
        Sums of weights, and of squared weights: counts where they are equal.
    systematic : ndarray [bins] or None
        Systematic uncertainty of simulation; None: no variations.
    hidden : ndarray of bool [bins]
        Where data are blinded.
    colours : dict
        Colours of the components, where they are no flavours.
    xlabel, ylabel, text, right, caption : str
        Words: axes, above the panel, below the picture.
    log : bool
        Logarithmic y axis.
    warning : str
        What the comparison is short of; empty when complete.
    """

    path: Path
    edges: Array
    simulation: dict[str, tuple[Array, Array]]
    data: tuple[Array, Array]
    systematic: Array | None
    hidden: Mask
    colours: dict[str, str]
    xlabel: str
    ylabel: str
    text: str
    right: str
    caption: str
    warning: str
    log: bool


@dataclass(frozen=True)
class Words:
    """What all pictures of a comparison say.

    Parameters
    ----------
    sample : str
        What the files are.
    luminosity : float
        [1/fb]
    to_data : bool
        Simulation is scaled to the data's yield.
    short : tuple of str
        What is missing.
    colours : dict
        Colours of the components of the stacks, where they are no flavours.
    """

    sample: str
    luminosity: float
    to_data: bool
    short: tuple[str, ...] = field(default=())
    colours: dict[str, str] = field(default_factory=dict)

    @property
    def right(self) -> str:
        """The luminosity, above the panel."""
        return rf"{self.luminosity:.4g} fb$^{{-1}}$"

    def normalisation(self, scale: float) -> str:
        """Return how simulation is normalised."""
        return f"simulation scaled to data (x {scale:.3g})" if self.to_data else "simulation scaled to luminosity"

    @property
    def warning(self) -> str:
        """What is missing; empty when complete."""
        return f"INCOMPLETE: {'; '.join(self.short)}" if self.short else ""


def visible(kind: str, content: Array) -> Array:
    """Return the bins that are shown of content with flow [bins + 2]: flow in the edge bins, undefined scores out."""
    shown = content[1:-1].copy()
    shown[-1] += content[-1]
    if kind not in SCORES:
        shown[0] += content[0]
    return shown


def by_component(kind: str, rows: Rows) -> dict[str, tuple[Array, Array]]:
    """Return the visible content of each flavour (or dataset) that has any."""
    shown = {c.flavour: (visible(kind, values), visible(kind, variances)) for c, (values, variances) in rows.items()}
    return {flavour: content for flavour, content in shown.items() if content[0].any()}


def scaled(content: Mapping[str, tuple[Array, Array]], scale: float) -> dict[str, tuple[Array, Array]]:
    """Return content times a factor."""
    return {name: (values * scale, variances * scale**2) for name, (values, variances) in content.items()}


def picture(
    variable: Variable, part: Part, words: Words, how: tuple[Mask, dict[str, float]], numbers: str, folder: Path
) -> Picture:
    """Return the picture of one variable in one region, for one model and variant.

    Parameters
    ----------
    variable : Variable
        What is shown.
    part : Part
        Of one region, model and variant; simulation normalised to luminosity.
    words : Words
        Common to all pictures.
    how : (ndarray of bool [bins + 2], dict)
        Bins in which data are blinded; scale of simulation to data, nominal and for each variation (empty: none).
    numbers : str
        Agreement, for the caption.
    folder : Path
        `comparison/` of the study; pictures lie in a folder per region.
    """
    hidden, scales = how
    simulation, data = part.simulation, part.data
    category, scale = next(iter(simulation)), scales.get(NOMINAL, 1.0)
    observed, variances = (visible(variable.kind, content) for content in total(data))
    shifts = part.shifts(scales)
    starts = drawn_together(observed, variances)

    def merged(content: Array) -> Array:
        return np.asarray(np.add.reduceat(content, starts, axis=-1))

    components = {
        name: (merged(values), merged(squares))
        for name, (values, squares) in scaled(by_component(variable.kind, simulation), scale).items()
    }
    moved = None if shifts is None else merged(np.array([visible(variable.kind, one) for one in shifts]))
    observed, variances = merged(observed), merged(variances)
    return Picture(
        path=folder / category.region / f"{_file_name(variable, category)}.png",
        edges=variable.edges[[*starts, len(variable.edges) - 1]],
        simulation=components,
        data=(observed, variances),
        systematic=None if moved is None else band_of(moved),
        hidden=np.logical_or.reduceat(hidden[1:-1], starts),  # a hidden flow bin hides the edge bin too
        colours=words.colours,
        xlabel=_xlabel(variable, category),
        ylabel=_ylabel(variable),
        text=words.sample,
        right=f"{category.region}, {words.right}",
        caption=_caption(
            [
                words.normalisation(scale),
                flow_words(variable.kind, simulation, data),
                blinded_words(variable, hidden),
                *numbers.split("; "),
            ]
        ),
        warning="\n".join(textwrap.wrap(words.warning, CAPTION_WIDTH)),
        log=variable.name not in LINEAR and not any_below_zero((observed, variances), components),
    )


def drawn_together(values: Array, variances: Array) -> NDArray[np.int64]:
    """Return the first bins [drawn bins] of those that are drawn as one: as many to each, fine where data are many.

    Parameters
    ----------
    values, variances : ndarray [bins]
        Of data.
    """
    bins, total_variance = len(values), variances.sum()
    entries = values.sum() ** 2 / total_variance if total_variance > 0 else 0.0
    first, last = np.searchsorted(np.cumsum(variances), [TAIL * total_variance, (1 - TAIL) * total_variance])
    span = min(last, bins - 1) - first + 1
    allowed = [size for size in range(1, bins + 1) if bins % size == 0 and (size == 1 or bins // size >= FEWEST_BINS)]
    enough = [size for size in allowed if entries >= PER_BIN * span / size]
    return np.arange(0, bins, enough[0] if enough else allowed[-1], dtype=np.int64)


def any_below_zero(data: tuple[Array, Array], components: Mapping[str, tuple[Array, Array]]) -> bool:
    """Tell whether something lies below zero that a logarithmic axis would hide.

    Of simulation only where data have weights too, as in opposite minus same sign: else these are a generator's.
    """
    values, variances = data
    counted = np.array_equal(values, variances)
    return bool((values < 0).any()) or (not counted and any((own < 0).any() for own, _ in components.values()))


def blinded_words(variable: Variable, hidden: Mask) -> str:
    """Return where data are blinded; empty where they are not."""
    ranges = ", ".join(f"{low:g} to {high:g}" for low, high in hidden_ranges(variable, hidden))
    return f"data blinded: {ranges}" if ranges else ""


def _file_name(variable: Variable, category: Category) -> str:
    model = "" if category.model == NO_MODEL else f"_{category.model}"
    variant = "" if category.variant == NOMINAL else f"_{category.variant}"
    return f"{variable.name}{model}{variant}"


def _xlabel(variable: Variable, category: Category) -> str:
    unit = f" [{variable.unit}]" if variable.unit else ""
    model = "" if category.model == NO_MODEL else f" ({category.model}"
    variant = "" if category.variant == NOMINAL else f", {category.variant}"
    return f"{variable.label}{unit}{model}{variant}" + (")" if model else "")


def _ylabel(variable: Variable) -> str:
    group = variable.quantity.split("/")[0] if variable.kind == "input" else "jet"
    if variable.kind == "expression":  # events, jets, or other objects
        return "Entries / bin"
    if variable.kind == "kinematics" and not variable.quantity.startswith("jet_"):
        return "Events / bin"
    return {"charged": "Charged candidates / bin", "neutral": "Neutral candidates / bin", "sv": "SVs / bin"}.get(
        group, "Jets / bin"
    )


def flow_words(kind: str, simulation: Rows, data: Rows) -> str:
    """Return where under- and overflow are."""
    if kind in ("output", "discriminant"):
        return _undefined_words(simulation, data)
    if kind == "stored":
        return "overflow in the last bin; " + _undefined_words(simulation, data)
    words = "under- and overflow in the edge bins"
    return f"{words}; placeholders left out" if kind == "input" else words


def _undefined_words(simulation: Rows, data: Rows) -> str:
    expected, observed = float(total(simulation)[0][0]), float(total(data)[0][0])
    if expected == 0 and observed == 0:
        return "no jet without a score"
    return f"without a score, not shown: {observed:.0f} jets in data, {expected:.3g} expected"


def agreement_words(
    agreement: Agreement | None, with_systematics: Agreement | None, distances: Mapping[str, Distance]
) -> str:
    """Return the agreement as words for a caption: chi2, the same with systematic uncertainties, KS distance."""
    parts = []
    if agreement is not None:
        parts.append(f"{reduced_words(agreement)} ({len(agreement.starts)} bins), p = {agreement.p:.2g}")
    if with_systematics is not None:
        parts.append(f"with syst. {reduced_words(with_systematics)}, p = {with_systematics.p:.2g}")
    if "ks" in distances:
        ks = distances["ks"]
        parts.append(f"KS {ks.reduced.value:.3f}" + ("" if ks.p is None else f", p = {ks.p:.2g} (toys)"))
    return "; ".join(parts)


def reduced_words(agreement: Agreement) -> str:
    """Return chi2 / ndf, with its error where it has one."""
    error = "" if agreement.reduced.error is None else rf" $\pm$ {agreement.reduced.error:.2f}"
    return rf"$\chi^2$/ndf = {agreement.reduced.value:.2f}{error}"


def _caption(parts: Iterable[str]) -> str:
    """Return the parts as lines that fit below a picture; a line breaks between parts where it can."""
    lines: list[str] = []
    for part in parts:
        if part and lines and len(lines[-1]) + len(part) + 2 <= CAPTION_WIDTH:
            lines[-1] += f"; {part}"
        elif part:
            lines += textwrap.wrap(part, CAPTION_WIDTH)
    return "\n".join(lines)


def draw(shown: Picture) -> Path:
    """Draw and write one picture."""
    from pfnano_tag.plotting.stacks import stack
    from pfnano_tag.plotting.style import save

    drawn = stack(
        shown.edges,
        shown.simulation,
        shown.data,
        shown.xlabel,
        shown.text,
        shown.right,
        shown.ylabel,
        shown.log,
        systematic=shown.systematic,
        hidden=shown.hidden,
        colours=shown.colours,
    )
    below = f"{shown.caption}\n{shown.warning}" if shown.warning else shown.caption
    drawn.supxlabel(below, fontsize=10, color="firebrick" if shown.warning else "black")
    return save(drawn, shown.path)


def draw_page(rows: list[list[Picture | None]], columns: list[str], notes: Mapping[Path, str], path: Path) -> Path:
    """Draw a page of pictures that exist one by one: a row per discriminant, a column per model.

    Parameters
    ----------
    rows : list of lists of Picture or None
        Pictures, None where a model lacks one.
    columns : list of str
        Models.
    notes : mapping
        Text in a cell, by the path of its picture.
    path : Path
        PNG.
    """
    from pfnano_tag.plotting.panels import Cell, stack_page
    from pfnano_tag.plotting.style import save

    first = next(shown for row in rows for shown in row if shown is not None)
    cells = [
        [
            None
            if shown is None
            else Cell(
                shown.edges,
                shown.simulation,
                shown.data,
                shown.xlabel,
                notes.get(shown.path, ""),
                shown.systematic,
                shown.hidden,
                shown.colours,
            )
            for shown in row
        ]
        for row in rows
    ]
    below = "; ".join(part for part in (first.caption.split(";")[0], first.warning) if part)
    log = all(shown.log for row in rows for shown in row if shown is not None)  # one kind of axis: cells are compared
    return save(stack_page(cells, columns, f"{first.text}, {first.right}", below, log), path)


def filled(simulation: Rows, data: Rows) -> bool:
    """Tell whether there is anything to show."""
    return bool(simulation) and bool(data) and bool(np.any(total(simulation)[0]) or np.any(total(data)[0]))
