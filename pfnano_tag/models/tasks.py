"""What a network may learn beside the flavour of a jet: each kind of task with its target, its head and its loss.

The fields of a kind are the keys that the card may give it. Targets come with the jets of a batch:

- `jet/pt_ratio`: float (B,), pT of the generator jet over that of the jet, NaN where there is none;
- `charged/origin`: int64 (B, N), class of the particle that a constituent comes from, -1 where it is not known;
- `charged/vertex`: int64 (B, N), equal for constituents of the same vertex, -1 where it is not known.

Shape suffixes: B jets, N constituents of one group (padded), T real constituents of all jets, P pairs i < j of real
constituents, E entries (jets, constituents or pairs with a label), C width of a jet's summary, D width of a token.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass, fields
from typing import ClassVar, Literal, NewType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pfnano_tag.models.heads import ConstituentHead, JetHead, PairHead, jets_of, pairs_of
from pfnano_tag.models.task_losses import gaussian_nll, smooth_l1

Positive = NewType("Positive", float)
"""A number above zero."""


@dataclass(frozen=True)
class Entries:
    """What has a label in a batch.

    Parameters
    ----------
    rows_E : Tensor
        int64, their rows in the task's output.
    jet_E : Tensor
        int64, their jets.
    target_E : Tensor
        Their labels.
    """

    rows_E: Tensor
    jet_E: Tensor
    target_E: Tensor


@dataclass(frozen=True)
class Task(ABC):
    """Keys that all tasks have.

    Parameters
    ----------
    target : str
        What is learned: group and name.
    hidden : tuple of int
        Widths of the head's hidden layers.
    weight : float
        Factor of the loss, beside that of the flavour (1), where the weights are fixed.
    """

    target: str
    hidden: tuple[int, ...] = (128, 64, 32)
    weight: Positive = Positive(1.0)

    kind: ClassVar[str]
    targets: ClassVar[tuple[str, ...]]
    """Targets that fit."""
    uncertainty: ClassVar[float | None]
    """Factor of the loss beside a learned uncertainty; None where it has one itself."""

    @property
    def group(self) -> str:
        """Group of the target: `jet`, or that of the constituents."""
        return self.target.partition("/")[0]

    @property
    def flavour_names(self) -> tuple[str, ...]:
        """Flavour classes whose jets are learned from; empty: all."""
        return ()

    @property
    def columns(self) -> tuple[str, ...]:
        """What stands behind the task's name in the names of the numbers that users get for a jet."""
        return ()

    def numbers(self, output: Tensor) -> Tensor:
        """Return the numbers that users get for a jet, (B, columns)."""
        return output[:0]

    @abstractmethod
    def head(self, context: int, width: int, activation: str) -> nn.Module:
        """Return a new head.

        Parameters
        ----------
        context, width : int
            C and D.
        activation : str
            relu, gelu or silu.
        """

    @abstractmethod
    def entries(self, target: Tensor, mask_BN: Tensor | None, chosen_B: Tensor | None) -> Entries:
        """Return what has a label.

        Parameters
        ----------
        target : Tensor
            (B,) or (B, N).
        mask_BN : Tensor or None
            Real constituents of the target's group; None for jets.
        chosen_B : Tensor or None
            bool, jets that are learned from; None: all.
        """

    @abstractmethod
    def losses(self, output: Tensor, entries: Entries) -> Tensor:
        """Return the loss of each entry (E,).

        Parameters
        ----------
        output : Tensor
            The head's.
        entries : Entries
            From `entries`.
        """


@dataclass(frozen=True)
class _OfJets(Task):
    """Keys of tasks whose target is a number per jet."""

    flavours: tuple[str, ...] = ()

    targets: ClassVar[tuple[str, ...]] = ("jet/pt_ratio",)

    @property
    def flavour_names(self) -> tuple[str, ...]:
        """Flavour classes whose jets are learned from; empty: all."""
        return self.flavours

    def entries(self, target: Tensor, mask_BN: Tensor | None, chosen_B: Tensor | None) -> Entries:
        """Return what has a label."""
        known_B = target.isfinite() if chosen_B is None else target.isfinite() & chosen_B
        rows_E = known_B.nonzero().squeeze(1)
        return Entries(rows_E, rows_E, target[rows_E])


@dataclass(frozen=True)
class Regression(_OfJets):
    """A number per jet (B, 1).

    Parameters
    ----------
    target, hidden, weight
        As for all tasks.
    flavours : tuple of str
        Flavour classes whose jets are learned from, say b alone for the energy of b jets; empty: all.
    loss : str
        smooth_l1, or mse, the squared error.
    beta : float
        Error below which smooth_l1 is quadratic.
    """

    loss: Literal["smooth_l1", "mse"] = "smooth_l1"
    beta: Positive = Positive(0.1)

    kind: ClassVar[str] = "regression"
    uncertainty: ClassVar[float | None] = 0.5

    @property
    def columns(self) -> tuple[str, ...]:
        """The prediction."""
        return ("",)

    def numbers(self, output: Tensor) -> Tensor:
        """Return the predictions (B, 1)."""
        return output

    def __post_init__(self) -> None:
        if self.loss == "mse" and self.beta != default_of(Regression, "beta"):
            raise ValueError(f"beta: {self.beta:g} has no effect with loss: mse; take one of them out")

    def head(self, context: int, width: int, activation: str) -> nn.Module:
        """Return a new head."""
        return JetHead(context, self.hidden, 1, activation)

    def losses(self, output: Tensor, entries: Entries) -> Tensor:
        """Return the loss of each entry (E,)."""
        prediction_E = output.index_select(0, entries.rows_E).squeeze(1)
        target_E = entries.target_E.to(prediction_E.dtype)
        if self.loss == "mse":
            return (prediction_E - target_E).square()
        return smooth_l1(prediction_E, target_E, self.beta)


@dataclass(frozen=True)
class GaussianRegression(_OfJets):
    """A number per jet and its uncertainty: mean and logarithm of the variance (B, 2) of a Gaussian.

    Parameters
    ----------
    target, hidden, weight
        As for all tasks.
    flavours : tuple of str
        As for a regression.
    """

    kind: ClassVar[str] = "gaussian"
    uncertainty: ClassVar[float | None] = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Mean and standard deviation."""
        return ("", "_sigma")

    def numbers(self, output: Tensor) -> Tensor:
        """Return means and standard deviations (B, 2)."""
        return torch.stack([output[:, 0], torch.exp(0.5 * output[:, 1])], dim=1)

    def head(self, context: int, width: int, activation: str) -> nn.Module:
        """Return a new head."""
        return JetHead(context, self.hidden, 2, activation)

    def losses(self, output: Tensor, entries: Entries) -> Tensor:
        """Return the loss of each entry (E,)."""
        mean_E, log_variance_E = output.index_select(0, entries.rows_E).unbind(1)
        return gaussian_nll(mean_E, log_variance_E, entries.target_E.to(mean_E.dtype))


@dataclass(frozen=True)
class ConstituentClassification(Task):
    """A class per constituent of the target's group, such as its origin: logits (T, classes).

    Parameters
    ----------
    target, hidden, weight
        As for all tasks.
    """

    kind: ClassVar[str] = "constituents"
    targets: ClassVar[tuple[str, ...]] = ("charged/origin",)
    uncertainty: ClassVar[float | None] = 1.0
    classes: ClassVar[dict[str, int]] = {"charged/origin": 6}
    """Number of classes of each target."""

    def head(self, context: int, width: int, activation: str) -> nn.Module:
        """Return a new head."""
        return ConstituentHead(context, width, self.hidden, self.classes[self.target], activation)

    def entries(self, target: Tensor, mask_BN: Tensor | None, chosen_B: Tensor | None) -> Entries:
        """Return what has a label."""
        assert mask_BN is not None
        target_T = target[mask_BN]
        rows_E = (target_T >= 0).nonzero().squeeze(1)
        return Entries(rows_E, jets_of(mask_BN)[rows_E], target_T[rows_E])

    def losses(self, output: Tensor, entries: Entries) -> Tensor:
        """Return the loss of each entry (E,)."""
        return F.cross_entropy(output.index_select(0, entries.rows_E), entries.target_E, reduction="none")


@dataclass(frozen=True)
class EdgeClassification(Task):
    """Whether two constituents of the target's group share a vertex: a logit per pair (P,), see `heads.pairs_of`.

    A pair counts where both vertices are known.

    Parameters
    ----------
    target, hidden, weight
        As for all tasks.
    ordered : bool
        Different weights for the two constituents of a pair, and the mean of both orders: for weights of Salt; twice
        the work.
    """

    ordered: bool = False

    kind: ClassVar[str] = "edges"
    targets: ClassVar[tuple[str, ...]] = ("charged/vertex",)
    uncertainty: ClassVar[float | None] = 1.0

    def head(self, context: int, width: int, activation: str) -> nn.Module:
        """Return a new head."""
        return PairHead(context, width, self.hidden, activation, self.ordered)

    def entries(self, target: Tensor, mask_BN: Tensor | None, chosen_B: Tensor | None) -> Entries:
        """Return what has a label."""
        assert mask_BN is not None
        target_T, (i_P, j_P) = target[mask_BN], pairs_of(mask_BN)
        one_P, other_P = target_T[i_P], target_T[j_P]
        rows_E = ((one_P >= 0) & (other_P >= 0)).nonzero().squeeze(1)
        return Entries(rows_E, jets_of(mask_BN)[i_P[rows_E]], (one_P == other_P)[rows_E])

    def losses(self, output: Tensor, entries: Entries) -> Tensor:
        """Return the loss of each entry (E,)."""
        logit_E = output.index_select(0, entries.rows_E)
        return F.binary_cross_entropy_with_logits(logit_E, entries.target_E.to(logit_E.dtype), reduction="none")


KINDS: dict[str, type[Task]] = {
    one.kind: one for one in (Regression, GaussianRegression, ConstituentClassification, EdgeClassification)
}


def default_of(kind: type[Task], key: str) -> object:
    """Return the default of a key of a kind, `dataclasses.MISSING` where it has none."""
    return next((field.default for field in fields(kind) if field.name == key), MISSING)


def weight_of(entries: Entries, weight_B: Tensor | None) -> float:
    """Sum of the entries' weights, those of their jets; their number without weights."""
    return float(len(entries.jet_E)) if weight_B is None else float(weight_B.index_select(0, entries.jet_E).sum())
