"""Key `training.resampling`: jets of an epoch drawn by weight, in place of weights in the loss."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pfnano_tag.card.base import Section


class Resampling(Section):
    """An epoch's jets are drawn anew from the training jets; what drawing leaves of a weight stays in the loss."""

    mode: Literal["without_replacement", "with_replacement"] = "without_replacement"
    """without_replacement: each jet at most once per epoch, kept with a probability; with_replacement: copies of each
    jet, their number from a Poisson distribution."""

    target: Literal["weights", "balanced"] = "weights"
    """weights: in proportion to the weights of section `reweighting`, the loss has none; balanced: the same number
    of each class, the shape in (pT, eta) within a class stays as weight in the loss."""

    jets: Annotated[int, Field(ge=1)] | None = None
    """Jets per epoch. null: without replacement as many as leave no weight in the loss that drawing can take away,
    with replacement as many as there are jets with a weight."""
