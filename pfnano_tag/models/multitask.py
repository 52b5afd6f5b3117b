"""One encoder and several tasks: the flavour of a jet, and what its constituents are and where they come from.

ATLAS GN1 (ATL-PHYS-PUB-2022-027) and GN2 (arXiv:2505.19689), as in their framework Salt (umami-hep/salt:salt/models/,
saltmodel.py, initnet.py, transformer.py, pooling.py, task.py): an initialisation network per group on [jet,
constituent], a transformer encoder with norms in front over the constituents of all groups, a projection and a norm,
attention pooling, and a head per task on the pooled jet, on each constituent beside it, or on pairs. With
`jet_inputs` off the layers are Salt's; its norms have no weights, which here begin at one and zero. Salt adds at
least one register to a jet, a learned token; here that is an argument.

Shape suffixes: B jets, N constituents of one group (padded), T real tokens of all groups and jets, L tokens of a jet
(padded), F features, C width of a jet's summary, D width of a token, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pfnano_tag.models.attention import AttentionBlock, Style
from pfnano_tag.models.heads import ConstituentHead, JetHead, PairHead, pairs_of
from pfnano_tag.models.pairs import MASKED_SCORE, padding_bias
from pfnano_tag.models.task_losses import FixedWeights, GeometricMean, LearnedWeights, weighted_sum
from pfnano_tag.models.tasks import Entries, Task, default_of
from pfnano_tag.models.tokens import Tokens

FLAVOUR = "flavour"
"""The task that a network always has."""
REGISTERS = "registers"


@dataclass(frozen=True)
class MultitaskConfig:
    """Sizes of `Multitask`; the defaults are those of GN2, without registers.

    Parameters
    ----------
    features : dict of str to int
        Number of features per group; `jet` holds the jet features.
    classes : int
        Output nodes of the flavour.
    flavours : tuple of str
        Their names, where a task is for some of them.
    embed : tuple of int
        Hidden widths of the initialisation network of each group.
    width : int
        D of the encoder.
    layers, heads : int
        Layers of the encoder, and attention heads; `heads` divides `width`.
    expansion : int
        Hidden width of the feed-forward layers, in units of `width`.
    gated : bool
        Gated feed-forward layers (SwiGLU, whatever the activation).
    out : int
        Width of the tokens behind the encoder; 0: `width`, without a projection.
    registers : int
        Learned tokens that each jet has beside its constituents (arXiv:2309.16588).
    jet_inputs : bool
        Concatenate the jet features to the pooled jet too, in front of the heads (not in GN2).
    head : tuple of int
        Hidden widths of the flavour's head.
    dropout : float
        Dropout probability in the encoder.
    activation : str
        relu, gelu or silu.
    recompute : bool
        Keep only what enters a layer of the encoder, and compute the rest again for the gradient: less memory for a
        second pass forward.
    tasks : dict of str to Task
        Tasks beside the flavour, by name.
    task_weights : str
        fixed: the sum of losses, each times its `weight`; learned: by the uncertainty of each task, learned as well;
        gls: the geometric mean of the losses.
    """

    features: dict[str, int]
    classes: int
    flavours: tuple[str, ...] = ()
    embed: tuple[int, ...] = (256,)
    width: int = 256
    layers: int = 4
    heads: int = 8
    expansion: int = 2
    gated: bool = False
    out: int = 128
    registers: int = 0
    jet_inputs: bool = True
    head: tuple[int, ...] = (128, 64, 32)
    dropout: float = 0.0
    activation: str = "relu"
    recompute: bool = False
    tasks: dict[str, Task] = field(default_factory=dict)
    task_weights: Literal["fixed", "learned", "gls"] = "fixed"

    def __post_init__(self) -> None:
        problems = [text for name, task in self.tasks.items() for text in self._problems_of(name, task)]
        if not self.heads or not self.width or self.width % self.heads:
            problems.append(f"width: found {self.width}, which heads = {self.heads} does not divide")
        if self.expansion < 1:
            problems.append(f"expansion: found {self.expansion}, expected at least 1")
        if not self.groups:
            problems.append("the inputs have no group of constituents, which an encoder needs; take mlp")
        if self.task_weights != "fixed" and not self.tasks:
            problems.append(
                f"task_weights: {self.task_weights} has no effect without tasks; add some, or take it out"
            )
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups of constituents, in their order."""
        return tuple(name for name in self.features if name != "jet")

    def _problems_of(self, name: str, task: Task) -> list[str]:
        found = []
        if not name.isidentifier() or name in (FLAVOUR, *self.flavours) or hasattr(nn.ModuleDict(), name):
            found.append(
                f"tasks.{name}: can't be the name of a task (letters, digits and _, no flavour class, not "
                f"{FLAVOUR} nor a word of torch); choose another"
            )
        if task.group not in self.features:
            groups = ", ".join(self.features)
            found.append(f"tasks.{name}.target: {task.target!r} needs a group of the inputs, which has {groups}")
        unknown = [flavour for flavour in task.flavour_names if flavour not in self.flavours]
        if unknown:
            there = ", ".join(self.flavours) or "not named"
            found.append(f"tasks.{name}.flavours: {', '.join(unknown)} is no flavour class; they are {there}")
        if self.task_weights == "gls" and task.uncertainty is None:
            found.append(
                f"tasks.{name}: the loss of kind {task.kind} can be negative, which has no geometric mean; take "
                "kind: regression, or task_weights: fixed or learned"
            )
        fixed = self.task_weights == "fixed" or (self.task_weights == "learned" and task.uncertainty is None)
        if not fixed and task.weight != default_of(type(task), "weight"):
            found.append(
                f"tasks.{name}.weight: {task.weight:g} has no effect with task_weights: {self.task_weights}; "
                "take one of them out"
            )
        return found


class AttentionPooling(nn.Module):
    """Sum of a jet's tokens with weights softmax(gate(token)); zero without tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, 1)

    def forward(self, x_TD: Tensor, tokens: Tokens) -> Tensor:
        """Pooled jets (B, D)."""
        scores_BL = tokens.padded(self.gate(x_TD)).squeeze(2)
        weights_BL = torch.where(tokens.mask_BL, scores_BL, MASKED_SCORE).softmax(1) * tokens.mask_BL
        return torch.bmm(weights_BL[:, None], tokens.padded(x_TD)).squeeze(1)


class Multitask(nn.Module):
    """Logits of the flavour from `forward`, as of every network; the outputs of all tasks from `outputs`."""

    wants_buckets: ClassVar[bool] = True
    cuts_batches: ClassVar[bool] = False
    needs_vectors: ClassVar[bool] = False

    def __init__(self, config: MultitaskConfig) -> None:
        super().__init__()
        self.config, self.tasks = config, config.tasks
        jet, width, activation = config.features.get("jet", 0), config.width, config.activation
        self.embed = nn.ModuleDict(
            {
                name: ConstituentHead(jet, config.features[name], config.embed, width, activation)
                for name in config.groups
            }
        )
        self.registers = nn.Parameter(1e-4 * torch.randn(config.registers, width)) if config.registers else None
        style = Style(gated=config.gated, scaled=False)
        sizes = (width, config.heads, config.expansion, config.dropout, activation, style)
        self.blocks = nn.ModuleList(AttentionBlock(*sizes) for _ in range(config.layers))
        self.project = nn.Linear(width, config.out) if config.out else nn.Identity()
        out = config.out or width
        self.norm = style.norm(out)
        self.pool = AttentionPooling(out)
        context = out + (jet if config.jet_inputs else 0)
        self.heads = nn.ModuleDict({FLAVOUR: JetHead(context, config.head, config.classes, activation)})
        for name, task in self.tasks.items():
            self.heads[name] = task.head(context, out, activation)
        self.combine = self._combination()

    @property
    def targets(self) -> tuple[str, ...]:
        """What the tasks need to know of jets and constituents to be trained."""
        return tuple(dict.fromkeys(task.target for task in self.tasks.values()))

    def forward(
        self,
        jet_BF: Tensor,
        x: dict[str, Tensor],
        mask: dict[str, Tensor],
        vectors: dict[str, Tensor] | None = None,
        tasks: Sequence[str] | None = None,
    ) -> Any:
        """Logits of the flavour (B, K), a tensor; with `tasks`, what `outputs` returns. `vectors` are not used."""
        summary_BC, tokens_TD = self._encode(jet_BF, x, mask)
        logits_BK: Tensor = self.heads[FLAVOUR](summary_BC)
        if tasks is None:
            return logits_BK
        found = {FLAVOUR: logits_BK}
        for name in tasks:
            head, group = self.heads[name], self.tasks[name].group
            if isinstance(head, JetHead):
                found[name] = head(summary_BC)
                continue
            found[name] = head(summary_BC, tokens_TD[group], mask[group])
            if isinstance(head, PairHead):
                found[f"{name}/pairs"] = torch.stack(pairs_of(mask[group]))
        return found

    def outputs(
        self,
        jet_BF: Tensor,
        x: dict[str, Tensor],
        mask: dict[str, Tensor],
        vectors: dict[str, Tensor] | None = None,
        of_jets: bool = False,
    ) -> dict[str, Tensor]:
        """Outputs of all tasks.

        Parameters
        ----------
        jet_BF, x, mask, vectors
            As for `forward`.
        of_jets : bool
            Only tasks whose target belongs to the jet.

        Returns
        -------
        dict of Tensor
            `flavour` (B, K), and each task by its name: a regression (B, 1); mean and logarithm of the variance
            (B, 2); logits of constituents (T, classes), in the order of `x[group][mask[group]]`; logits of pairs
            (P,), and under `NAME/pairs` int64 (2, P), the rows i < j of their constituents.
        """
        wanted = [name for name in self.tasks if not of_jets or isinstance(self.heads[name], JetHead)]
        # A call of the module, and not of a method, is what torch.compile and hooks see.
        found: dict[str, Tensor] = self(jet_BF, x, mask, vectors, wanted)
        return found

    def entries(
        self, mask: Mapping[str, Tensor], targets: Mapping[str, Tensor], label_B: Tensor | None
    ) -> dict[str, Entries]:
        """What has a label, of each task.

        Parameters
        ----------
        mask : mapping of Tensor
            Real constituents of each group.
        targets : mapping of Tensor
            All of `targets`.
        label_B : Tensor or None
            Flavour of each jet, for tasks of some flavours.
        """
        return {name: self._entries(name, mask, targets, label_B) for name in self.tasks}

    def task_sums(
        self, outputs: Mapping[str, Tensor], entries: Mapping[str, Entries], weight_B: Tensor | None
    ) -> dict[str, Tensor]:
        """Sum of w l over what has a label, of each task; exactly zero where nothing has.

        Parameters
        ----------
        outputs : mapping of Tensor
            From `outputs`.
        entries : mapping of Entries
            From `entries`.
        weight_B : Tensor or None
            Weight of each jet; None: 1.
        """
        found = {}
        for name, task in self.tasks.items():
            output, of_task = outputs[name], entries[name]
            exact = output.float() if output.dtype in (torch.bfloat16, torch.float16) else output
            found[name] = weighted_sum(task.losses(exact, of_task), of_task.jet_E, weight_B)
        return found

    def total_loss(
        self,
        flavour_loss: Tensor,
        sums: Mapping[str, Tensor],
        weights: Mapping[str, float],
    ) -> Tensor:
        """One loss of all: the flavour's and sum(w l) / sum(w) of each task, combined by `task_weights`.

        A task without a label has no part in it.

        Parameters
        ----------
        flavour_loss : Tensor
            Mean loss of the flavour.
        sums : mapping of Tensor
            From `task_sums`.
        weights : mapping of float
            Sum of the weights of what has a label (`tasks.weight_of`), of the same jets, or of all jets of which
            these are a part.
        """
        known = {name: sums[name] / weights[name] for name in sums if weights[name] > 0}
        nothing = [sums[name] for name in sums if name not in known]
        total: Tensor = self.combine({FLAVOUR: flavour_loss} | known)
        return sum(nothing, total)  # zeros, so that each parameter has a gradient

    def _entries(
        self, name: str, mask: Mapping[str, Tensor], targets: Mapping[str, Tensor], label_B: Tensor | None
    ) -> Entries:
        task = self.tasks[name]
        if task.target not in targets:
            raise ValueError(f"task {name}: the batch has no target {task.target}")
        chosen_B = None
        if task.flavour_names:
            if label_B is None:
                raise ValueError(f"task {name}: the batch has no flavours, but the task is for some of them")
            places = [self.config.flavours.index(flavour) for flavour in task.flavour_names]
            chosen_B = torch.isin(label_B, torch.tensor(places, device=label_B.device))
        return task.entries(targets[task.target], mask.get(task.group), chosen_B)

    def _combination(self) -> nn.Module:
        """What makes one loss of all."""
        if self.config.task_weights == "gls":
            return GeometricMean()
        fixed = {name: float(task.weight) for name, task in self.tasks.items()}
        if self.config.task_weights == "fixed":
            return FixedWeights({FLAVOUR: 1.0} | fixed)
        learned = {name: task.uncertainty for name, task in self.tasks.items() if task.uncertainty is not None}
        return LearnedWeights(
            {FLAVOUR: 1.0} | learned, {name: weight for name, weight in fixed.items() if name not in learned}
        )

    def _encode(
        self, jet_BF: Tensor, x: dict[str, Tensor], mask: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Summaries of jets (B, C), and tokens of each group (T, D) in the order of its real constituents."""
        masks = {name: mask[name] for name in self.embed}
        rows = [embed(jet_BF, x[name][masks[name]], masks[name]) for name, embed in self.embed.items()]
        if self.registers is not None:
            rows.append(self.registers.repeat(len(jet_BF), 1))
            masks[REGISTERS] = torch.ones(len(jet_BF), len(self.registers), dtype=torch.bool, device=jet_BF.device)
        tokens = Tokens.of(list(masks.values()))
        x_TD = torch.cat(rows).index_select(0, tokens.order_T)
        bias = padding_bias(tokens.key_mask_BS, x_TD.dtype)
        for block in self.blocks:
            if self.config.recompute and self.training:
                x_TD = checkpoint(block, x_TD, tokens, bias, use_reentrant=False)
            else:
                x_TD = block(x_TD, tokens, bias)
        x_TD = self.norm(self.project(x_TD))
        summary_BC = self.pool(x_TD, tokens)
        if self.config.jet_inputs:
            summary_BC = torch.cat([summary_BC, jet_BF], dim=1)
        place_T = torch.empty_like(tokens.order_T)
        place_T[tokens.order_T] = torch.arange(len(place_T), device=place_T.device)
        groups = place_T.split([len(part) for part in rows])
        return summary_BC, {name: x_TD.index_select(0, group_T) for name, group_T in zip(masks, groups, strict=True)}
