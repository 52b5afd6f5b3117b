"""Weights, splits, certified sections and sums."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pfnano_tag.analyze.factors import ready_factors
from pfnano_tag.analyze.weights import effective_sums, event_weights, read_lumi_mask, section_keys, sections_by_run
from pfnano_tag.errors import CardError
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.prepare.splitting import event_hash, split_of
from tests.analyze.events_file import content, write

NONE = np.zeros(0, dtype=np.int64)


def loaded(path, card, dataset, test_only=False, mask=None, vetoed=NONE):
    with PFNanoFile(path) as file:
        chunk = file.chunk(0, file.num_entries)
        chosen = card.dataset(dataset)
        factors = ready_factors(card, chosen)
        return event_weights(chunk, card, chosen, factors, test_only, mask, vetoed), chunk


def test_lumi_mask_ranges_include_both_ends(tmp_path):
    path = tmp_path / "mask.json"
    path.write_text(json.dumps({"2": [[1, 3], [7, 7]], "1": [[5, 9]]}))
    mask = read_lumi_mask(str(path))
    run, section = np.meshgrid([0, 1, 2, 3], np.arange(12))
    expected = ((run == 1) & (section >= 5) & (section <= 9)) | (
        (run == 2) & (((section >= 1) & (section <= 3)) | (section == 7))
    )
    assert np.array_equal(mask.contains(section_keys(run.ravel(), section.ravel())), expected.ravel())


def test_ranges_of_a_lumi_mask_may_overlap(tmp_path):
    path = tmp_path / "mask.json"
    path.write_text(json.dumps({"1": [[1, 10], [2, 3], [8, 12], [13, 14], [20, 20]], "2": [[1, 2]]}))
    mask = read_lumi_mask(str(path))
    run, section = np.meshgrid([1, 2], np.arange(25))
    expected = np.where(
        run == 1, ((section >= 1) & (section <= 14)) | (section == 20), (section >= 1) & (section <= 2)
    )
    assert np.array_equal(mask.contains(section_keys(run.ravel(), section.ravel())), expected.ravel())


BAD_MASKS = ("nonsense", "", "[1]", '{"a": [[1, 2]]}', '{"1": 7}', '{"1": [5]}', '{"1": {"2": [1, 2]}}')
BAD_RANGES = ("[5, 2]", "[1.5, 2]", "[-1, 2]", '["1", "2"]', "[1, 2, 3]", "[1, true]")


@pytest.mark.parametrize("text", [*BAD_MASKS, *(f'{{"1": [{one}]}}' for one in BAD_RANGES)])
def test_a_bad_lumi_mask_is_a_card_error(tmp_path, text):
    path = tmp_path / "mask.json"
    path.write_text(text)
    with pytest.raises(CardError, match=r"mask\.json"):
        read_lumi_mask(str(path))


def test_empty_mask_certifies_nothing(tmp_path):
    path = tmp_path / "mask.json"
    path.write_text("{}")
    assert not read_lumi_mask(str(path)).contains(section_keys(np.ones(3), np.ones(3))).any()


def test_weights_multiply_and_bad_ones_are_dropped_and_counted(tmp_path, card_with):
    branches = content("mc", 5, 40)
    weight = np.array(branches["genWeight"])
    weight[[3, 7]] = np.nan, np.inf
    extra = np.full(40, 0.5, "f4")
    extra[11] = np.nan
    path = write(tmp_path / "w.root", {**branches, "genWeight": weight, "Extra": extra})
    found, _ = loaded(path, card_with(weights={"branches": ["Extra"]}), "mc")
    good = np.setdiff1d(np.arange(40), [3, 7, 11])
    assert np.flatnonzero(found.used).tolist() == good.tolist()
    np.testing.assert_array_equal(found.weights["nominal"][good], weight[good].astype(float) * 0.5)
    assert found.sums["entries_bad_weight"] == 3
    assert found.sums["sumw_used"] == pytest.approx(weight[good].sum(dtype=float))
    assert found.sums["sumw_processed"] == pytest.approx(weight[good].sum(dtype=float) + weight[11])


def test_only_the_test_split_of_training_datasets(files, card_with):
    card = card_with()
    found, chunk = loaded(files["mc"], card, "mc", test_only=True)
    hashes = event_hash("mc", chunk["run"], chunk["luminosityBlock"], chunk["event"])
    assert np.array_equal(found.used, split_of(hashes, card.splitting.fractions) == 2)
    assert 0.1 < found.used.mean() < 0.3
    assert found.sums["sumw_used"] == pytest.approx(chunk["genWeight"][found.used].sum(dtype=float))


def test_data_sections(files, card_with, tmp_path):
    path = tmp_path / "mask.json"
    path.write_text(json.dumps({"1": [[1, 3]]}))
    vetoed = section_keys(np.array([1]), np.array([2]))
    found, chunk = loaded(files["data"], card_with(), "data", mask=read_lumi_mask(str(path)), vetoed=vetoed)
    section = chunk["luminosityBlock"]
    assert np.array_equal(found.used, (section == 1) | (section == 3))
    assert sections_by_run(found.sections) == {"1": [1, 3]}
    assert found.sums["entries_uncertified"] == (section > 3).sum()


SUMS = {"entries": 10.0, "entries_processed": 5.0, "sumw_processed": 6.0, "sumw_used": 3.0, "sumw_entries": 12.0}


@pytest.mark.parametrize(
    ("changed", "runs", "effective"),
    [
        ({}, 24.0, 6.0),  # skimmed file: 24 generated, a quarter of the weight in the file was used
        ({}, None, 3.0),
        ({}, float("nan"), 3.0),
        ({"sumw_entries": float("nan")}, 24.0, 6.0),  # half of the entries were processed
        ({"entries": 0.0, "entries_processed": 0.0, "sumw_used": 0.0, "sumw_entries": 0.0}, 24.0, 24.0),
    ],
)
def test_effective_sum_of_weights(changed, runs, effective):
    assert effective_sums({**SUMS, **changed}, runs)["sumw_effective"] == pytest.approx(effective)


def test_a_file_skimmed_empty_counts_with_its_share_of_the_test_split():
    empty = dict.fromkeys(SUMS, 0.0)
    assert effective_sums(empty, 24.0, empty=0.2)["sumw_effective"] == pytest.approx(4.8)
