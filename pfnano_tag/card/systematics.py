"""Section `systematics`: distorted objects, on which selections and networks run once more."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pfnano_tag.card.base import Section

Fraction = Annotated[float, Field(gt=0, lt=1)]
Above = Annotated[float, Field(gt=1)]


class JetEnergyScale(Section):
    """Jets with another energy. Moves pT and mass of jets, all selections by them, and missing momentum; of the
    inputs only the jet's own pT: ratios to the jet refer to the uncorrected one.
    """

    kind: Literal["jet_energy_scale"]
    """Energies of all jets (and what they do to missing momentum) times 1 + shift."""

    shift: Annotated[float, Field(gt=-0.9, lt=10)]
    """Relative shift of the energy, of either sign."""


class JetEnergyResolution(Section):
    """Jets farther from their generator jets. Moves what `jet_energy_scale` moves; jets without one keep theirs."""

    kind: Literal["jet_energy_resolution"]
    """Distances of jets from the pT of their generator jets times a factor."""

    factor: Above
    """Width of pT - generator pT over its nominal width."""


class ImpactParameterResolution(Section):
    """Tracks with a worse resolution of both impact parameters. Moves the impact parameters of charged candidates,
    their significances, distances to the jet, and the order of candidates; neither errors nor vertices.
    """

    kind: Literal["impact_parameter_resolution"]
    """Impact parameters of tracks smeared by a part of their error."""

    factor: Above
    """Resolution over nominal resolution: numbers of width sqrt(factor^2 - 1) x error are added to d0 and dz."""


class ImpactParameterBias(Section):
    """Tracks that miss the vertex by more, all in one direction. Moves what `impact_parameter_resolution` moves."""

    kind: Literal["impact_parameter_bias"]
    """Impact parameters of all tracks shifted."""

    transverse: float = 0.0
    """Added to d0 [cm]."""

    longitudinal: float = 0.0
    """Added to dz [cm]."""


class TrackingEfficiency(Section):
    """Lost tracks. Moves the number of charged candidates, and all that is ordered or summed over them; neither jets
    nor vertices.
    """

    kind: Literal["tracking_efficiency"]
    """Charged candidates lost at random."""

    loss: Fraction
    """Fraction of the charged candidates that are lost."""


class VertexEfficiency(Section):
    """Lost secondary vertices. Moves the number of vertices, their features, and the distance of candidates to the
    nearest one.
    """

    kind: Literal["vertex_efficiency"]
    """Secondary vertices lost at random."""

    loss: Fraction
    """Fraction of the vertices that are lost."""


Systematic = Annotated[
    JetEnergyScale
    | JetEnergyResolution
    | ImpactParameterResolution
    | ImpactParameterBias
    | TrackingEfficiency
    | VertexEfficiency,
    Field(discriminator="kind"),
]
