"""Attacks by the kind that the card gives them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from pfnano_tag.attack.constraints import movable, restrict
from pfnano_tag.attack.fgsm import fgsm
from pfnano_tag.attack.gradient import AttackLoss
from pfnano_tag.attack.noise import noise
from pfnano_tag.attack.normed_gradient import normed_gradient
from pfnano_tag.attack.pgd import pgd
from pfnano_tag.attack.systematic import systematic
from pfnano_tag.card.attacks import Attack
from pfnano_tag.infer.prediction import Distortion
from pfnano_tag.models.batch import Batch
from pfnano_tag.models.losses import cross_entropy
from pfnano_tag.prepare.inputs import InputSpec

Allowed = dict[str, Tensor]
_Step = Callable[[nn.Module, Batch, Allowed, Attack, AttackLoss, int], Batch]

KINDS: dict[str, _Step] = {
    "noise": lambda module, batch, allowed, a, loss, seed: noise(batch, a.epsilon, allowed, seed),
    "fgsm": lambda module, batch, allowed, a, loss, seed: fgsm(module, batch, a.epsilon, allowed, loss),
    "pgd": lambda module, batch, allowed, a, loss, seed: pgd(
        module, batch, a.epsilon, allowed, a.steps, a.step_size, loss, seed
    ),
    "normed_gradient": lambda module, batch, allowed, a, loss, seed: normed_gradient(
        module, batch, a.epsilon, allowed, loss
    ),
    "systematic": lambda module, batch, allowed, a, loss, seed: systematic(batch, a.epsilon, allowed),
}

NEEDS_GRADIENT = frozenset({"fgsm", "pgd", "normed_gradient"})


def make(
    attack: Attack,
    spec: InputSpec,
    strength: float | None = None,
    seed: int = 0,
    loss: AttackLoss = cross_entropy,
) -> Distortion:
    """An attack of the card as a function of (network, batch).

    Parameters
    ----------
    attack : Attack
        From section `attacks`.
    spec : InputSpec
        Inputs of the network: protected features, scaling.
    strength : float or None
        Takes the place of `attack.epsilon` (scans).
    seed : int
        Of noise and random starts.
    loss : callable
        Loss of (logits, labels) whose gradient is used.

    Returns
    -------
    callable
        Gives the attacked batch; labels, weights, four-vectors and everything protected stay.
    """
    chosen = attack if strength is None else attack.model_copy(update={"epsilon": strength})
    step = KINDS[chosen.kind]

    def distort(module: nn.Module, batch: Batch) -> Batch:
        attacked = step(module, batch, movable(batch, spec), chosen, loss, seed)
        if chosen.restrict_impact is None:
            return attacked
        return restrict(attacked, batch, spec, chosen.restrict_impact)

    return distort
