"""Section `training`: the optimisation, common to all networks of the card."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pfnano_tag.card.base import Section
from pfnano_tag.card.resampling import Resampling

Decay = Annotated[float, Field(ge=0, lt=1)]


class Lookahead(Section):
    """Lookahead around the optimiser (arXiv:1907.08610): slow weights that follow its fast ones."""

    steps: Annotated[int, Field(ge=1)] = 6
    """Steps of the optimiser between two of the slow weights."""

    alpha: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Part of the way to the fast weights that the slow ones go; the fast ones begin there again."""


class Training(Section):
    """Optimiser, schedule, loss, stopping."""

    epochs: Annotated[int, Field(ge=1)] = 20
    """Iterations through all training jets."""

    batch_size: Annotated[int, Field(ge=1)] = 512
    """Jets per batch."""

    constituents_at_once: Annotated[int, Field(ge=1)] | None = 1024
    """Constituents that pass the blocks of a network of sequences (particle_transformer, multitask) at once: a
    batch with more is split by jets, short ones first, which saves padding. Gradients, and the statistics of batch
    norm, are those of the whole batch. null: never split."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the layers in a training: bfloat16 where torch's autocast holds it to be safe (matrix products,
    attention), which needs less memory and, on processors that have such units, less time. Weights, losses,
    validation and inference stay float32."""

    compile: bool = False
    """Compile the network with torch.compile: takes minutes at the start, and may pay on a GPU."""

    buffer: Annotated[int, Field(ge=1)] = 200_000
    """Jets that are shuffled at a time; where all jets fit, each epoch is one permutation. At least two batches."""

    resampling: Resampling | None = None
    """Draw the jets of an epoch by weight, in place of weights in the loss; null: every jet once, with its weight."""

    optimizer: Literal["adamw", "adam", "radam", "muon"] = "adamw"
    """Optimiser of torch; Ranger is radam with `lookahead: {}`; muon moves the matrices (slow steps on
    a CPU), and adamw the rest."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Highest learning rate."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay (adamw, muon), L2 penalty (adam, radam)."""

    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay of the optimiser's running means of the gradient and of its square, per batch; muon has the first."""

    lookahead: Lookahead | None = None
    """Slow weights around the optimiser; null: none."""

    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Exponential moving average of the weights, kept by this factor per batch: the average is what is validated and
    saved; null: the weights themselves."""

    schedule: Literal["one_cycle", "cosine", "inverse", "constant", "flat_then_decay"] = "one_cycle"
    """Learning rate: one cycle; cosine with warm-up; 1/(1+epoch/30); constant; constant, then falling linearly to
    1 % in the last 30 % of the batches."""

    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    """Loss, averaged over a batch as sum(w l)/sum(w); validation has the same."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the target that is spread evenly over all classes (cross_entropy)."""

    focal_gamma: Annotated[float, Field(ge=0)] = 2.0
    """Exponent of the focal loss."""

    focal_alpha: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Factor of the focal loss per flavour class; 1 for classes that are not named."""

    gradient_clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of the gradient; null: no clipping."""

    validation_weights: bool = True
    """Validation loss with the weights of the training; false: each jet counts once."""

    best: str = "validation_loss"
    """Metric that chooses the best epoch: a loss or a resolution (lowest), or `validation_accuracy`, `auc_BvsL` ...
    (highest). A name that does not exist is answered with all that do."""

    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop after so many epochs without a better value of the metric `best`; null: never."""

    tensorboard: bool = False
    """Also write the metrics of each epoch as TensorBoard event files (extra `[log]`)."""

    attack: str | None = None
    """Name in section `attacks`: batches are replaced by their attacked images; null: nominal training."""

    attack_every: Annotated[int, Field(ge=1)] = 1
    """Attack the first of so many batches: 1 all of them, 2 every second one."""

    attack_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the jets of an attacked batch that are replaced, drawn anew for each batch."""

    attack_after: Annotated[int, Field(ge=0)] = 0
    """Epochs of nominal training in front of the first attack."""

    attack_loss: Literal["adversarial", "kl"] = "adversarial"
    """Loss of an attacked batch. adversarial: that of the attacked jets; kl: that of the nominal jets plus
    attack_kl_weight x KL(p(x) || p(x')), with p(x) and p(x') the probabilities of a nominal and an attacked jet."""

    attack_kl_weight: Annotated[float, Field(gt=0)] = 1.0
    """Weight of the divergence between nominal and attacked probabilities (kl)."""
