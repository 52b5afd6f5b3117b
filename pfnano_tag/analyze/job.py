"""What a job is: one file of a dataset with all that is done to it; checked before anything is read or written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pfnano_tag import __version__
from pfnano_tag.analyze.array_files import arrays_path, check_format
from pfnano_tag.analyze.arrays import Column, columns_of, own_expressions
from pfnano_tag.analyze.distortions import distortion_branches
from pfnano_tag.analyze.factors import ReadyFactor, factor_files, ready_factors
from pfnano_tag.analyze.result import FORMAT_VERSION, Variable
from pfnano_tag.analyze.selections import selection_branches
from pfnano_tag.analyze.systematics import names_of
from pfnano_tag.analyze.variables import Network, chosen_inputs, flavours_of, variables_of
from pfnano_tag.analyze.weights import LumiMask, read_lumi_mask, weight_branches
from pfnano_tag.card import Card
from pfnano_tag.card.card import ANALYZED_SECTIONS
from pfnano_tag.card.datasets import Dataset
from pfnano_tag.card.hashing import content_hash, file_hash
from pfnano_tag.card.systematics import Systematic
from pfnano_tag.errors import CardError, DataError, MissingBranch
from pfnano_tag.infer.networks import Networks, load_networks
from pfnano_tag.infer.prediction import ATTACKS_NEED_TORCH
from pfnano_tag.nano.expressions import check_expression, expression_branches
from pfnano_tag.nano.plan import Plan
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.nano.taggers import stored_branches
from pfnano_tag.prepare.cleaning import cleaning_branches
from pfnano_tag.prepare.labeling import indistinct_in, truth_branches

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A data/MC job.

    Parameters
    ----------
    card : Card
        The study.
    dataset : Dataset
        What the file belongs to.
    source : PFNanoFile
        The file, open.
    networks : Networks
        Networks to apply; may be none.
    """

    card: Card
    dataset: Dataset
    source: PFNanoFile
    networks: Networks

    @property
    def test_only(self) -> bool:
        """Whether only the test split enters: networks are applied to a dataset that they may have seen."""
        return "train" in self.dataset.roles and bool(self.networks.taggers)

    @cached_property
    def stored(self) -> tuple[str, ...]:
        """Branches of the stored taggers that are histogrammed."""
        asked = self.card.histograms.stored
        if asked == "none":
            return ()
        if asked == "all":
            found = stored_branches(self.source.branches)
            return tuple(branch for scores in found.values() for branch in scores.values())
        return tuple(asked)

    @cached_property
    def models(self) -> tuple[Network, ...]:
        """What the histograms need to know of the networks."""
        return tuple(Network(n, t.classes, t.inputs.ids) for n, t in self.networks.taggers.items())

    @cached_property
    def variables(self) -> dict[str, Variable]:
        """All variables of the job."""
        return variables_of(self.card, self.dataset.kind, self.models, self.stored)

    @cached_property
    def lumi_mask(self) -> LumiMask | None:
        """Certified luminosity sections; None: all."""
        path = self.dataset.lumi_mask
        return None if path is None else read_lumi_mask(path)

    @cached_property
    def factors(self) -> dict[str, ReadyFactor]:
        """Factors of the event weight that the dataset has."""
        return ready_factors(self.card, self.dataset)

    @property
    def weight_branches(self) -> tuple[str, ...]:
        """Branches that weights, event identity and overlap removal are made from."""
        return weight_branches(self.card, self.dataset, self.factors, self.source.branches, self.source.path)

    @property
    def event_branches(self) -> tuple[str, ...]:
        """Branches that weights, acceptance and selections read: those of all events."""
        branches, path = self.source.branches, self.source.path
        names = [*self.weight_branches, *cleaning_branches(branches, self.card.jets, path)]
        for region in self.card.regions.values():
            names += selection_branches(region, branches, path)
        return tuple(dict.fromkeys(names))

    @property
    def systematics(self) -> dict[str, Systematic]:
        """Variations of objects, by name; data have none."""
        return self.card.systematics if self.dataset.kind == "mc" else {}

    @property
    def truth(self) -> tuple[str, ...]:
        """Branches that the flavour of jets is made from."""
        return () if self.dataset.kind == "data" else truth_branches(self.source.branches, self.source.path)

    @property
    def jet_branches(self) -> tuple[str, ...]:
        """Branches that are read only for chunks with a selected jet."""
        inputs = self.networks.branches(self.source) if self.networks.taggers else set()
        varied = [
            branch
            for name, systematic in self.systematics.items()
            for branch in distortion_branches(name, systematic, self.source.contents)
        ]
        return tuple(dict.fromkeys([*self.truth, *self.stored, *sorted(inputs), *varied, *self.expressions]))

    @property
    def expressions(self) -> tuple[str, ...]:
        """Branches of the card's own variables and columns."""
        texts = own_expressions(self.card).values()
        return tuple(dict.fromkeys(name for text in texts for name in expression_branches(text)))

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Columns of the rows of jets beside the histograms; none unless the card asks for them."""
        return columns_of(self.card, self.dataset.kind, self.models, self.stored, self.source)

    def outputs(self, target: Path) -> tuple[Path, ...]:
        """Return the files that the job writes: histograms, and rows of jets where the card asks for them."""
        form = self.card.arrays.format
        return (target,) if form == "none" else (target, arrays_path(target, form))

    @property
    def branches(self) -> tuple[str, ...]:
        """All branches that the job reads."""
        return tuple(dict.fromkeys([*self.event_branches, *self.jet_branches]))

    @property
    def merged_labels(self) -> tuple[str, ...]:
        """Classes of the card that the file can't tell from b."""
        lost = indistinct_in(self.source.branches) if self.dataset.kind == "mc" else frozenset()
        return tuple(name for name in self.card.labels.classes if name in lost)

    def new_plan(self) -> Plan:
        """Return chunks for the file, by `resources.chunk`."""
        return self.source.plan(self.branches, self.card.resources.chunk_bytes)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What must agree between the jobs of a comparison, as JSON content."""
        card = self.card
        return {
            "format": FORMAT_VERSION,
            **{section: card.hash(section) for section in ANALYZED_SECTIONS},
            "attacks": {name: card.attacks[name].model_dump(mode="json") for name in card.histograms.variants},
            "seed": card.study.seed if card.histograms.variants or card.systematics else None,
            "replicas": card.comparison.replicas,
            "corrections": factor_files(card),
            "models": {name: tagger.hash for name, tagger in self.networks.taggers.items()},
        }

    @cached_property
    def dataset_settings(self) -> dict[str, Any]:
        """What must agree between the jobs of a dataset, as JSON content."""
        mask = self.dataset.lumi_mask
        return {
            "name": self.dataset.name,
            "kind": self.dataset.kind,
            "test_only": self.test_only,
            "triggers": list(self.dataset.triggers),
            "vetoes": list(self.dataset.vetoes),
            "lumi_mask": None if mask is None else file_hash(Path(mask)),
        }

    @cached_property
    def key(self) -> dict[str, Any]:
        """What the job's result depends on, as JSON content."""
        arrays = {"format": self.card.arrays.format, "columns": [column.to_json() for column in self.columns]}
        asked = {"arrays": arrays} if self.columns else {}
        return {**self.settings, **asked, "file": self.source.identity, "dataset": self.dataset_settings}

    def provenance(self) -> dict[str, Any]:
        """Return the part of the result's provenance that is known before the file is read."""
        return {
            "study": self.card.study.name,
            "code_version": __version__,
            "dataset": self.dataset.name,
            "kind": self.dataset.kind,
            "file": {
                "path": self.source.path,
                "identity": self.source.identity,
                "entries": self.source.num_entries,
            },
            "settings": content_hash(self.settings),
            "settings_by_part": self.settings,
            "settings_of_dataset": self.dataset_settings,
            "models": {name: tagger.description() for name, tagger in self.networks.taggers.items()},
            "backend": self.card.resources.backend if self.networks.taggers else None,
            "regions": list(self.card.regions),
            "flavours": list(flavours_of(self.card, self.dataset.kind)),
            "variants": list(self.card.histograms.variants),
            "systematics": list(names_of(self.card, self.dataset.kind)),
            "stored": list(self.stored),
            "merged_labels": list(self.merged_labels),
            "replicas": self.card.comparison.replicas if self.networks.taggers else 0,
            "split": "test" if self.test_only else "all",
        }


def make_job(card: Card, dataset: str, source: PFNanoFile, models: Sequence[str] | None) -> Job:
    """Return a job after checking that card, file and networks fit together.

    Parameters
    ----------
    card : Card
        The study.
    dataset : str
        Name of one of its datasets.
    source : PFNanoFile
        The file, open.
    models : sequence of str or None
        As for `infer.networks.load_networks`; empty: none.

    Raises
    ------
    CardError
        When there is no such dataset, or it is not to be analysed; when files of weights or the lumi mask don't do;
        when a column of the arrays is not known.
    MissingExtra
        When a weight or the format of arrays needs a package that is not installed.
    DataError
        When the file is data and the dataset simulation, or the reverse.
    MissingBranch
        Naming all branches that the file lacks for networks, regions, weights and labels.
    """
    chosen = card.dataset(dataset)
    if "analyze" not in chosen.roles:
        raise CardError(f"dataset {dataset!r} has roles {list(chosen.roles)}: add `analyze` to use it in data/MC")
    if source.kind != chosen.kind:
        found = {"mc": "simulation", "data": "data"}
        raise DataError(
            f"{source.path} is {found[source.kind]} (by its branches), but the card's dataset {dataset!r} "
            f"has kind {chosen.kind}: use the dataset that it belongs to"
        )
    job = Job(card, chosen, source, load_networks(card, models))
    if card.resources.backend == "onnx" and card.histograms.variants and job.networks.taggers:
        raise CardError(ATTACKS_NEED_TORCH)
    _ = job.factors, job.settings  # files that the weights are read from
    _check_branches(job)
    if job.merged_labels:
        log.warning("%s can't tell %s from b: merged into b", source.path, ", ".join(job.merged_labels))
    check_format(card.arrays.format)
    _ = job.columns, job.lumi_mask, source.runs  # read now: what is wrong with them is said before any work
    return job


def _check_branches(job: Job) -> None:
    """Complain about everything that is missing in the file at once."""
    problems: list[str] = []
    source = job.source

    def attempt(check: Any) -> None:
        try:
            check()
        except MissingBranch as error:
            problems.append(str(error))

    if job.networks.taggers:
        attempt(lambda: job.networks.check(source))
        own = [name for name in chosen_inputs(job.card, job.models) if name not in job.networks.features]
    else:
        own = [] if job.card.histograms.inputs in ("all", "none") else list(job.card.histograms.inputs)
    if own:
        raise CardError(f"histograms.inputs: {', '.join(own)}: no network of this job has that input")
    for region in job.card.regions.values():
        attempt(lambda region=region: selection_branches(region, source.branches, source.path))
    attempt(
        lambda: source.require(
            weight_branches(job.card, job.dataset, {}, source.branches, source.path), "event weights and identity"
        )
    )
    for name, factor in job.factors.items():
        attempt(lambda name=name, factor=factor: source.require(factor.branches, f"weights.factors.{name}"))
    attempt(
        lambda: source.require(
            cleaning_branches(source.branches, job.card.jets, source.path), "the acceptance of jets"
        )
    )
    attempt(lambda: source.require(job.stored, "histograms.stored"))
    for key, text in own_expressions(job.card).items():
        attempt(lambda key=key, text=text: source.require(expression_branches(text), key))
    if job.dataset.kind == "mc":
        attempt(lambda: truth_branches(source.branches, source.path))
    for name, systematic in job.systematics.items():
        attempt(lambda name=name, systematic=systematic: distortion_branches(name, systematic, source.contents))
    if problems:
        raise MissingBranch("\n".join(dict.fromkeys(problems)))
    _check_expressions(job)


def _check_expressions(job: Job) -> None:
    """Complain about all expressions that make no sense for the file at once; a chunk would be lost to each."""
    texts = own_expressions(job.card)
    for name, factor in job.factors.items():
        texts |= {f"weights.factors.{name}.{key}": text for key, text in factor.texts.items()}
    nothing, problems = job.source.chunk(0, 0), []
    for key, text in texts.items():
        try:
            check_expression(text, nothing)
        except CardError as error:
            problems.append(f"{key}: {error} ({job.source.path})")
    if problems:
        raise CardError("\n".join(problems))
