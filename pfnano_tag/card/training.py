"""Section `training`: the optimisation, common to all networks of the card."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pfnano_tag.card.base import Section


class Training(Section):
    """Optimiser, schedule, loss, stopping."""

    epochs: Annotated[int, Field(ge=1)] = 20
    """Iterations through all training jets."""

    batch_size: Annotated[int, Field(ge=1)] = 512
    """Jets per batch."""

    buffer: Annotated[int, Field(ge=1)] = 200_000
    """Jets that are shuffled at a time; where all jets fit, each epoch is one permutation. At least two batches."""

    optimizer: Literal["adamw", "adam", "radam"] = "adamw"
    """Optimiser of torch."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Highest learning rate."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay (adamw), L2 penalty (adam, radam)."""

    schedule: Literal["one_cycle", "cosine", "inverse", "constant"] = "one_cycle"
    """Learning rate: one cycle; cosine with warm-up; 1/(1+epoch/30); constant."""

    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    """Loss, averaged over a batch as sum(w l)/sum(w)."""

    focal_gamma: Annotated[float, Field(ge=0)] = 2.0
    """Exponent of the focal loss."""

    gradient_clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of the gradient; null: no clipping."""

    validation_weights: bool = True
    """Validation loss with the weights of the training; false: each jet counts once."""

    best: str = "validation_loss"
    """Metric that chooses the best epoch: a loss (lowest), or `validation_accuracy`, `auc_BvsL` ... (highest)."""

    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop after so many epochs without a better value of the metric `best`; null: never."""

    tensorboard: bool = False
    """Also write the metrics of each epoch as TensorBoard event files (extra `[log]`)."""

    attack: str | None = None
    """Name in section `attacks`: every batch is replaced by its attacked image; null: nominal training."""
