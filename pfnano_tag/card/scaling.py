"""Section `scaling`: how features are brought to a common scale."""

from __future__ import annotations

from typing import Literal

from pfnano_tag.card.base import Section


class Scaling(Section):
    """Transform, then mean and standard deviation of the training split without defaults."""

    transform: Literal["schema", "none"] = "schema"
    """`schema`: the transform that the feature table names (signed log1p for heavy tails); `none`: no transform."""
