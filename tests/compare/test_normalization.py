"""Closed forms of the normalisation."""

from pathlib import Path

import numpy as np
import pytest

from pfnano_tag.analyze.result import Cutflow
from pfnano_tag.card.datasets import Dataset
from pfnano_tag.compare.jobs import Job
from pfnano_tag.compare.merging import Merger
from pfnano_tag.compare.normalization import (
    empty_regions,
    luminosity_of,
    normalise,
    processed_sections,
    scale_of,
    summary,
)
from pfnano_tag.compare.outputs import DatasetJobs, find_jobs
from pfnano_tag.errors import DataError


def normalised(study, *overrides):
    with Merger(find_jobs(study.card(*overrides))) as merger:
        return normalise(merger), summary(merger, normalise(merger))


def test_scale_is_expected_over_generated():
    # 6077.22 pb in 41.5 /fb are 252,204,630 events; of 1e6 unit weights each stands for 252.2
    assert scale_of(6077.22, 41.5, 1e6) == pytest.approx(252.20463)


def test_sums_of_files_add_and_shares_of_lost_chunks_are_made_up_for(study):
    study.job("dy", "dy_1.root", sums={"sumw_effective": 1000.0})
    study.job("dy", "dy_2.root", sums={"sumw_effective": 750.0, "chunks_lost": 1}, lost=[{"start": 0}])
    study.job("muons", "muons_1.root")
    found, described = normalised(study)
    assert found.luminosity == 2.0
    assert found.simulation == {"dy": pytest.approx(2.0 * 1000 * 2.0 / 1750.0)}
    assert found.short == ("dy: 1 of 8 chunks lost", "tt: no output")
    assert described["dy"]["sumw_effective"] == 1750


def test_test_split_stands_for_all(study):
    # The job's effective sum holds the test split's weight fraction (0.2): its events weigh five times more.
    study.job("dy", "dy_1.root", sums={"sumw_effective": 1000.0})
    study.job("tt", "tt_1.root", sums={"sumw_effective": 0.2 * 1000.0}, split="test")
    study.job("muons", "muons_1.root")
    found, _ = normalised(study)
    assert found.simulation["tt"] == pytest.approx(0.5 * 1000 * 2.0 / 1000.0 * 5)
    assert found.short == ()


def test_luminosities_of_data_datasets_add():
    periods = [
        Dataset(name=name, files=("x",), kind="data", roles=("analyze",), luminosity=lumi)
        for name, lumi in (("B", 1.5), ("C", 2.0))
    ]
    simulation = Dataset(name="dy", files=("x",), kind="mc", cross_section=2.0, roles=("analyze",))
    merger = Merger([DatasetJobs(one, (Path(one.name),)) for one in (*periods, simulation)])
    sums = {"sumw_effective": 1000.0, "chunks": 1.0, "chunks_lost": 0.0, "sumw_used": 1.0}
    merger.jobs = {name: [Job(Path(name), {}, sums, {})] for name in ("B", "C", "dy")}
    found = normalise(merger)
    assert found.luminosity == 3.5
    assert found.data == {"B": 1.0, "C": 1.0}
    assert found.simulation["dy"] == pytest.approx(2.0 * 1000 * 3.5 / 1000)


def test_primary_datasets_of_one_period_share_its_luminosity():
    def data(name, luminosity, period):
        return Dataset(name=name, files=("x",), kind="data", roles=("analyze",), luminosity=luminosity, period=period)

    alone = data("B", 1.5, None)
    first, second = data("muons_C", 2.0, "C"), data("electrons_C", 2.0, "C")
    assert luminosity_of([alone, first, second]) == 3.5
    assert luminosity_of([first]) == luminosity_of([second]) == 2.0
    assert luminosity_of([alone, data("D", 1.5, "D"), data("E", 1.5, None)]) == 4.5


def test_a_region_that_selects_nothing_is_named(study):
    empty = Cutflow(("events", "trigger", "jets"), np.array([9.0, 2.0, 0.0]), np.array([9.0, 2.0, 0.0]))
    full = Cutflow(("events", "jets"), np.array([9.0, 1.0]), np.array([9.0, -1.0]))
    merger = Merger([])
    merger.jobs = {"dy": [Job(Path("x"), {}, {}, {"none": empty, "some": full})] * 2}
    assert empty_regions(merger) == ["region none selects nothing: none of 18 events passes 'jets'"]


def test_missing_files_and_lost_sections_are_named(whole):
    whole.input("muons_9.root")
    whole.job("muons", "muons_2.root", unknown_lumis=True)
    found, described = normalised(whole)
    assert found.short == (
        "muons: 1 of 3 files not analyzed",
        "muons: luminosity sections of lost chunks unknown",
    )
    assert len(described["muons"]["missing_files"]) == 1


@pytest.mark.parametrize(("dataset", "what"), [("dy", "data"), ("muons", "simulation")])
def test_both_sides_are_needed(study, dataset, what):
    study.job(dataset, f"{dataset}_1.root")
    with pytest.raises(DataError, match=f"dataset of {what}"):
        normalised(study)


def test_a_sum_of_weights_that_is_not_positive_is_refused(study):
    study.job("dy", "dy_1.root", sums={"sumw_effective": -5.0})
    study.job("muons", "muons_1.root")
    with pytest.raises(DataError, match="dy: the effective sum"):
        normalised(study)


def test_a_dataset_without_events_counts_nothing(study):
    study.job("dy", "dy_1.root")
    study.job("tt", "tt_1.root", 0, sums={"sumw_effective": 0.0, "sumw_used": 0.0})
    study.job("muons", "muons_1.root")
    found, _ = normalised(study)
    assert "tt" not in found.simulation
    assert found.short == ("tt: no event was looked at",)


def test_sections_become_ranges(study):
    study.job("muons", "muons_1.root", lumis={"7": [1, 2, 3, 9], "12": [4]})
    study.job("muons", "muons_2.root", lumis={"7": [4, 10]})
    study.job("dy", "dy_1.root")
    with Merger(find_jobs(study.card())) as merger:
        assert processed_sections(merger.jobs["muons"]) == {"7": [[1, 4], [9, 10]], "12": [[4, 4]]}
