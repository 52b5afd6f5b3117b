"""Section `attacks`: named distortions of the inputs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pfnano_tag.card.base import Section

AttackKind = Literal["noise", "fgsm", "pgd", "normed_gradient", "systematic"]
Strength = Annotated[float, Field(ge=0)]


class Attack(Section):
    """One distortion of the scaled inputs."""

    kind: AttackKind
    """noise: Gaussian; fgsm: sign of the gradient; pgd: iterated fgsm; normed_gradient: gradient over its norm
    per jet and group; systematic: all features up by the same amount."""

    epsilon: Strength = 0.01
    """Strength in units of the scaled inputs, where the attack is applied once (training, data/MC)."""

    scan: tuple[Strength, ...] = (0.005, 0.01, 0.02, 0.05, 0.1)
    """Strengths of the robustness curves."""

    steps: Annotated[int, Field(ge=1)] = 10
    """Iterations (pgd)."""

    step_size: Annotated[float, Field(gt=0)] = 0.25
    """Size of one iteration, as a fraction of epsilon (pgd)."""

    restrict_impact: Annotated[float, Field(gt=0)] | None = None
    """Largest change of a feature relative to its value, in the feature's own units; null: no bound."""
