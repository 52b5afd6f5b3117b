"""From the card's `generate` section to units of production."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pfnano_tag.card.folder import generated_folder
from pfnano_tag.card.jobs import collect_results
from pfnano_tag.errors import UserError, nearest
from pfnano_tag.generate.processes import ProcessOptions
from pfnano_tag.generate.units import Unit

if TYPE_CHECKING:
    from pfnano_tag.card.card import Card


def units_of(card: Card, changes: dict[str, Any] | None = None) -> list[Unit]:
    """All files of the card's samples.

    Parameters
    ----------
    changes : dict[str, Any] or None
        Fields of `Unit` that the command line overrides.

    Raises
    ------
    UserError
        The card has no samples to generate.
    """
    section = card.generate
    if not section.samples:
        raise UserError("generate.samples: the card names no samples to generate")
    units = []
    for name, sample in section.samples.items():
        unit = Unit(
            process=sample.process,
            events=sample.events,
            seed=card.study.seed,
            mode=sample.mode,
            sample=name,
            options=ProcessOptions(**sample.options.model_dump()),
            underlying_event=section.underlying_event,
            compression=section.compression,
            layout=section.layout,
            container=section.container,
            candidates=section.candidates,
            fat_jets=section.fat_jets,
        )
        unit = replace(unit, **(changes or {}))
        units += [replace(unit, index=index) for index in range(sample.files)]
    return units


def chosen(units: Sequence[Unit], names: Sequence[str]) -> list[Unit]:
    """Return the units called `SAMPLE:INDEX`.

    Raises
    ------
    UserError
        The card has no such file.
    """
    known = {f"{unit.name}:{unit.index}": unit for unit in units}
    for name in names:
        if name not in known:
            hint = ", ".join(nearest(name, known) or list(known)[:3])
            raise UserError(f"--only {name}: the card's samples have no such file; nearest: {hint}")
    return [known[name] for name in dict.fromkeys(names)]


def run(card: Card, changes: dict[str, Any] | None = None, only: Sequence[str] = ()) -> dict[str, Any]:
    """Make all files of the card's samples that are not complete yet.

    Parameters
    ----------
    card : Card
        The study's card.
    changes : dict[str, Any] or None
        As for `units_of`.
    only : sequence of str
        Files to make, as `SAMPLE:INDEX`; all when empty. A part of the files leaves no manifest on disk.

    Returns
    -------
    dict
        The manifest: `samples` (cross section, events, sums by sample) and `files`.

    Raises
    ------
    UserError
        The card has no samples, or the generator is not installed.
    Incomplete
        A worker process died; what is complete stays.
    """
    from pfnano_tag.generate.production import produce

    collect_results(card)
    units = units_of(card, changes)
    folder = generated_folder(card)
    if only:
        return produce(chosen(units, only), folder, card.generate.workers, manifest=False)
    return produce(units, folder, card.generate.workers)
