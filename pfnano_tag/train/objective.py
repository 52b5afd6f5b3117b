"""What a training minimises: the loss of the card, on nominal jets, attacked jets, or both.

Recipes of adversarial training: every batch replaced by its attacked image (Stein et al., arXiv:2203.13890; the
framework paper, arXiv:2306.17846), every second or third batch, only after some epochs (the trainings of the CMS
taggers), or the nominal loss and the divergence between nominal and attacked probabilities (TRADES, Zhang et al.,
arXiv:1901.08573).
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from pfnano_tag.attack.registry import make
from pfnano_tag.card.attacks import Attack
from pfnano_tag.card.training import Training
from pfnano_tag.errors import CardError, DataError
from pfnano_tag.models.batch import Batch, call, call_all
from pfnano_tag.models.batch_tasks import label_weights, total_loss
from pfnano_tag.models.layers import has_row_norm, in_step
from pfnano_tag.models.losses import LOSSES, divergence, weighted_mean
from pfnano_tag.prepare.inputs import InputSpec
from pfnano_tag.train.distributed import ALONE, World
from pfnano_tag.train.order import seed_of

log = logging.getLogger(__name__)


def make_loss(settings: Training, classes: tuple[str, ...]) -> nn.Module:
    """Loss of the card, as a module of (logits, labels, weights).

    Parameters
    ----------
    settings : Training
        Section `training`.
    classes : tuple of str
        Flavour classes in the order of the outputs.

    Raises
    ------
    CardError
        When `focal_alpha` names a class that the prepared study lacks.
    """
    if settings.loss == "cross_entropy":
        return LOSSES["cross_entropy"](smoothing=settings.label_smoothing)
    unknown = [flavour for flavour in settings.focal_alpha if flavour not in classes]
    if unknown:
        raise CardError(
            f"training.focal_alpha: {', '.join(unknown)} is no flavour class of the prepared study, "
            f"which has {', '.join(classes)}"
        )
    alpha = tuple(settings.focal_alpha.get(flavour, 1.0) for flavour in classes) if settings.focal_alpha else None
    return LOSSES["focal"](gamma=settings.focal_gamma, alpha=alpha)


class Objective:
    """Loss of a training batch.

    Which batches and which of their jets are attacked is a pure function of the seed, the epoch and the batch's
    number, so that a resumed training attacks the same ones. The attack sees the network as it is at that batch, in
    evaluation mode, and raises the loss of the card without weights, that of the flavour; then the network is in
    training mode again. Further tasks of a network see the same jets, attacked or not.

    Parameters
    ----------
    loss : nn.Module
        From `make_loss`.
    settings : Training
        Section `training`.
    attack : Attack or None
        None: the nominal loss, always.
    inputs : InputSpec
        Inputs of the network.
    seed : int
        Of the study.
    world : World
        Processes that share the batches.
    """

    def __init__(
        self,
        loss: nn.Module,
        settings: Training,
        attack: Attack | None,
        inputs: InputSpec,
        seed: int,
        world: World = ALONE,
    ) -> None:
        self.loss, self._settings, self._attack, self._inputs, self._seed = loss, settings, attack, inputs, seed
        self._jets_at_once: int | None = None
        self._world = world

    def gradient(self, module: nn.Module, batch: Batch, epoch: int, number: int) -> Tensor:
        """Set the gradients of all parameters to those of a batch's loss, and return the loss.

        Of several processes each has a part of the batch, and gets its part of the loss sum(w l) / sum(w) over all of
        them: loss and gradients remain to be added up (`World.add_gradients`).

        The batch passes in parts whose gradients add up: a network of sequences takes so many constituents at once
        (`training.constituents_at_once`; one with batch norm cuts the batch by itself), and where memory runs out,
        the jets at once are halved from then on. The sums of a part are divided by the weights of the whole batch,
        each task's by its own. A geometric mean of losses is no sum: there the loss is the mean over the parts.

        Parameters
        ----------
        module, batch, epoch, number
            As for `__call__`.

        Raises
        ------
        DataError
            When the memory does not suffice for a single jet; with several processes and batch norm, whose passes
            through the network keep step, for a part of the batch.
        """
        parts = self._parts(module, batch)
        weight, most = self._of_all(batch, parts)
        together = self._keeps_step(module)
        if together:
            nothing = batch.select(torch.arange(0, device=batch.jet_BF.device))
            parts += [nothing] * (most - len(parts))
        while True:
            module.zero_grad(set_to_none=True)
            try:
                return self._sum_of_parts(module, batch, parts, weight, epoch, number)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                if together:
                    raise _too_large_together(max(map(len, parts)), error) from error
                self._jets_at_once = _half(max(map(len, parts)), error)
                parts = self._parts(module, batch)

    def _keeps_step(self, module: nn.Module) -> bool:
        """Whether all processes must pass the network equally often, with as few jets as they may have."""
        return self._world.size > 1 and has_row_norm(module)

    def _of_all(self, batch: Batch, parts: list[Batch]) -> tuple[float, int]:
        """Sum of weights of a batch over all processes, and the most parts in one of them."""
        weight_P, parts_P = self._world.table(weight_of(batch), len(parts)).unbind(1)
        return float(weight_P.sum()), int(parts_P.max())

    def _sum_of_parts(
        self, module: nn.Module, batch: Batch, parts: list[Batch], weight: float, epoch: int, number: int
    ) -> Tensor:
        total = torch.zeros((), device=batch.jet_BF.device)
        own = label_weights(module, batch)
        weights = dict(zip(own, self._world.sums(*own.values()), strict=True)) if own else own
        for place, part in enumerate(parts):
            share = weight_of(part) / weight if weight else 0.0
            of_part = {name: of_all * share for name, of_all in weights.items()}
            with self._precision(batch.jet_BF.device), in_step() as tied:
                loss = tied(self(module, part, epoch, number, place, of_part) * share)
            loss.backward()
            total = total + loss.detach()
        return total

    def _parts(self, module: nn.Module, batch: Batch) -> list[Batch]:
        limit = self._settings.constituents_at_once if module.wants_buckets else None
        if module.cuts_batches:  # batch norm has the whole batch: the network passes it in parts by itself
            module.constituents_at_once = limit  # type: ignore[assignment]
            limit = None
        parts = [batch] if limit is None else batch.parts(limit)
        if self._jets_at_once is None:
            return parts
        return [smaller for part in parts for smaller in part.split(self._jets_at_once)]

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        """Forward passes in the precision of the card; weights, losses and gradients stay float32."""
        half = self._settings.precision == "bfloat16"
        return torch.autocast(device.type, dtype=torch.bfloat16) if half else nullcontext()

    def __call__(
        self,
        module: nn.Module,
        batch: Batch,
        epoch: int,
        number: int,
        part: int = 0,
        weights: dict[str, float] | None = None,
    ) -> Tensor:
        """Weighted mean loss of a batch or a part of it, a scalar with gradients.

        Parameters
        ----------
        module : nn.Module
            Network in training mode.
        batch : Batch
            Nominal jets with labels.
        epoch : int
            From 1.
        number : int
            Of the batch in its epoch, from 0.
        part : int
            Of the batch, from 0.
        weights : dict of float or None
            What the sums of further tasks are divided by; None: the weights of what has a label here.
        """
        if self._attack is None or not is_attacked(self._settings, epoch, number):
            return self._loss_of(module, call_all(module, batch), batch, weights)
        chosen_A = self._chosen(len(batch), epoch, number, part).to(batch.jet_BF.device)
        nominal = batch if len(chosen_A) == len(batch) else batch.select(chosen_A)
        distort = make(self._attack, self._inputs, seed=seed_of(self._seed, "attack", epoch), loss=self.loss)
        attacked = distort(module, nominal) if len(nominal) else nominal
        if self._settings.attack_loss == "adversarial":
            seen = attacked if nominal is batch else batch.with_jets(chosen_A, attacked)
            return self._loss_of(module, call_all(module, seen), batch, weights)
        outputs = call_all(module, batch)
        if not len(nominal) and not self._keeps_step(module):
            return self._loss_of(module, outputs, batch, weights)
        logits_BK = outputs["flavour"]
        divergence_A = divergence(logits_BK[chosen_A], call(module, attacked))
        divergence_B = logits_BK.new_zeros(len(batch)).index_copy(0, chosen_A, divergence_A)
        regulariser = weighted_mean(divergence_B, batch.weight_B)
        return self._loss_of(module, outputs, batch, weights, self._settings.attack_kl_weight * regulariser)

    def _loss_of(
        self,
        module: nn.Module,
        outputs: dict[str, Tensor],
        batch: Batch,
        weights: dict[str, float] | None,
        regulariser: Tensor | float = 0.0,
    ) -> Tensor:
        """Loss of the card, with what is added to it, and those of further tasks that the network has."""
        if not len(batch):  # a mean over no jets is not a number, but batch norm goes backward in all processes
            return outputs["flavour"].sum()
        flavour_loss: Tensor = self.loss(outputs["flavour"], batch.label_B, batch.weight_B)
        return total_loss(module, flavour_loss + regulariser, outputs, batch, weights)

    def _chosen(self, count: int, epoch: int, number: int, part: int = 0) -> Tensor:
        """Jets of a batch that are attacked, rising."""
        share = self._settings.attack_fraction
        if share == 1:
            return torch.arange(count)
        generator = torch.Generator().manual_seed(seed_of(self._seed, "attacked jets", epoch, number, part))
        return torch.randperm(count, generator=generator)[: round(share * count)].sort().values


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch, or of Python, says that the memory does not suffice."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)  # torch has no class of its own


def _half(jets: int, error: BaseException) -> int:
    """Half of the jets that did not fit into the memory, at least one."""
    if jets <= 1:
        raise DataError(
            f"the memory does not suffice for a single jet ({error}); use a smaller network, set its argument "
            "recompute=true, or ask for more memory"
        ) from error
    log.warning(
        "out of memory with %d jets at once: from now on %d, and the gradients of a batch's parts are added up "
        "(the same weighted mean; only batch norm sees the parts)",
        jets,
        jets // 2,
    )
    return jets // 2


def _too_large_together(jets: int, error: BaseException) -> DataError:
    return DataError(
        f"out of memory with {jets} jets at once ({error}); several processes whose batch norm has the jets of all "
        "can't halve them by the way: lower training.batch_size, or start more processes"
    )


def weight_of(batch: Batch) -> float:
    """Sum of weights of jets; their number where there are no weights."""
    return float(len(batch)) if batch.weight_B is None else float(batch.weight_B.sum())


def is_attacked(settings: Training, epoch: int, number: int) -> bool:
    """Whether a training with an attack attacks this batch (epochs count from 1, their batches from 0)."""
    return epoch > settings.attack_after and number % settings.attack_every == 0


def in_words(settings: Training) -> str:
    """What a training attacks; empty without an attack."""
    if settings.attack is None:
        return ""
    every = "every batch" if settings.attack_every == 1 else f"one batch in {settings.attack_every}"
    share = "" if settings.attack_fraction == 1 else f"{settings.attack_fraction:.0%} of the jets of "
    after = f" after epoch {settings.attack_after}" if settings.attack_after else ""
    loss = "" if settings.attack_loss == "adversarial" else f", loss with {settings.attack_kl_weight:g} x KL"
    return f"{share}{every} attacked by {settings.attack}{after}{loss}"
