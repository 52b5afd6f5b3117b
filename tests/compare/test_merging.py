"""Merging equals sums; mixtures and gaps are found."""

import numpy as np
import pytest

from pfnano_tag.analyze.factors import factor_files
from pfnano_tag.analyze.result import JobResult, write_result
from pfnano_tag.card.hashing import file_hash
from pfnano_tag.compare.merging import Merger, rows_of, total
from pfnano_tag.compare.outputs import find_jobs
from pfnano_tag.compare.refusals import refuse_stale
from pfnano_tag.compare.stage import run
from pfnano_tag.errors import DataError, FileError, StudyError

FACTORS = {"dy": 2.0, "tt": 0.5}


def merged(study, name, factors):
    with Merger(find_jobs(study.card())) as merger:
        return merger.merged(name, factors)


def test_merged_is_the_scaled_sum_of_all_files(whole):
    rows = merged(whole, "BvsL", FACTORS)
    expected = {}
    for (dataset, _), contents in whole.written.items():
        if dataset in FACTORS:
            variable, content = contents["BvsL"]
            for category, values, variances in zip(
                variable.categories, content.values, content.variances, strict=True
            ):
                before = expected.setdefault(category, [0.0, 0.0])
                before[0] = before[0] + FACTORS[dataset] * values
                before[1] = before[1] + FACTORS[dataset] ** 2 * variances
    assert rows.keys() == expected.keys()
    for category, (values, variances) in rows.items():
        np.testing.assert_allclose(values, expected[category][0], rtol=1e-12)
        np.testing.assert_allclose(variances, expected[category][1], rtol=1e-12)


def test_replicas_of_data_and_simulation_stay_apart(whole):
    data = merged(whole, "agreement_BvsL", {"muons": 1.0})
    assert {c.flavour for c in data if c.replica >= 0} == {"all"}
    values = total(rows_of(data, None, model="good", replica=-1))[0]
    assert values.sum() == 9000


def test_other_settings_are_refused(whole):
    whole.job("tt", "tt_1.root", settings="t" * 64, settings_by_part={"models": {"good": "other"}})
    with (
        pytest.raises(StudyError, match=r"tt_1\.root were made with different settings \(models\)"),
        Merger(find_jobs(whole.card())),
    ):
        pass


def test_output_of_another_dataset_is_refused(whole):
    path = whole.job("tt", "tt_1.root")
    path.replace(path.parents[1] / "dy" / "dy_1.root")
    with pytest.raises(StudyError, match="output of dataset 'tt'"), Merger(find_jobs(whole.card())):
        pass


def test_a_damaged_output_is_named(whole):
    path = whole.folder / "analysis" / "dy" / "dy_2.root"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(FileError, match=r"dy_2\.root"), Merger(find_jobs(whole.card())):
        pass


def test_files_without_output_are_listed(whole):
    whole.input("dy_3.root")
    found = {group.dataset.name: group for group in find_jobs(whole.card())}
    assert [path.name for path in found["dy"].paths] == ["dy_1.root", "dy_2.root"]
    assert [file.endswith("dy_3.root") for file in found["dy"].missing] == [True]
    assert found["tt"].missing == ()


def test_outputs_of_files_that_left_the_dataset_do_not_enter(whole):
    (whole.folder / "in" / "dy_2.root").unlink()
    found = {group.dataset.name: group for group in find_jobs(whole.card())}
    assert [path.name for path in found["dy"].paths] == ["dy_1.root"]


def test_inputs_may_be_elsewhere(whole):
    (whole.folder / "in" / "tt_1.root").unlink()
    found = {group.dataset.name: group for group in find_jobs(whole.card())}
    assert [path.name for path in found["tt"].paths] == ["tt_1.root"]
    assert "matches no file" in found["tt"].unlisted


def test_no_output_at_all(study):
    study.input("dy_1.root")
    with pytest.raises(StudyError, match="run `analyze`"):
        find_jobs(study.card())


def test_two_files_with_one_output_are_refused(whole):
    (whole.folder / "other").mkdir()
    (whole.folder / "other" / "dy_1.root").touch()
    files = f"datasets.0.files=['{whole.folder}/in/dy_*.root', '{whole.folder}/other/dy_1.root']"
    with pytest.raises(DataError, match="same output name"):
        find_jobs(whole.card(files))


def test_outputs_of_another_card_are_refused(whole):
    card = whole.card()
    parts = {"models": {}, "jets": card.hash("jets"), "regions": card.hash("regions"), "attacks": {}, "replicas": 12}
    whole.job("tt", "tt_1.root", settings_by_part=parts)
    with Merger(find_jobs(card)) as merger:
        jobs = merger.jobs["tt"]
        refuse_stale(card, jobs)
        with pytest.raises(StudyError, match=r"tt_1\.root: made with another card, jets, replicas changed since"):
            refuse_stale(whole.card("jets.abs_eta=2.0", "comparison.replicas=20"), jobs)
        with pytest.raises(StudyError, match="attacks changed since"):
            refuse_stale(whole.card("histograms.variants=['fgsm']"), jobs)


def test_one_file_under_two_names_is_refused(whole):
    for name in ("dy_1.root", "dy_2.root"):
        whole.job("dy", name, file={"identity": "same:1", "path": f"/in/{name}"})
    with (
        pytest.raises(DataError, match=r"one and the same file \(/in/dy_1\.root and /in/dy_2\.root\).*twice"),
        Merger(find_jobs(whole.card())),
    ):
        pass


def test_outputs_made_with_other_corrections_are_refused(whole, tmp_path):
    file = tmp_path / "sf.json"
    file.write_text("{}")
    factor = f"weights.factors.sf={{kind: correctionlib, file: {file}, correction: c, inputs: {{}}}}"
    card = whole.card(factor)
    parts = {"weights": card.hash("weights"), "corrections": factor_files(card)}
    whole.job("tt", "tt_1.root", settings_by_part=parts)
    with Merger(find_jobs(card)) as merger:
        refuse_stale(card, merger.jobs["tt"])
        file.write_text("{ }")
        with pytest.raises(StudyError, match="corrections changed since"):
            refuse_stale(card, merger.jobs["tt"])
        file.unlink()  # it may lie where the jobs ran
        refuse_stale(card, merger.jobs["tt"])


def test_a_variable_that_some_files_lack_is_left_out(whole, monkeypatch, caplog):
    """The stack of what only some files store would pass for all of simulation."""
    monkeypatch.setattr("pfnano_tag.compare.stage.draw", lambda shown: shown.path)
    monkeypatch.setattr("pfnano_tag.compare.stage.draw_page", lambda *arguments: arguments[-1])
    path = whole.folder / "analysis" / "tt" / "tt_1.root"
    with JobResult(path) as job:
        contents = {name: (one, job.read(name)) for name, one in job.variables.items() if name != "jet_pt"}
        write_result(path, job.info, job.sums, job.cutflows, contents)
    results = run(whole.card(), workers=1)
    assert results["left_out"] == {"jet_pt": [str(path)]}
    assert "dy/jet_pt/none/nominal" not in results["agreement"]
    assert "dy/BvsL/good/nominal" in results["agreement"]
    assert "jet_pt is left out: 1 of 5 job outputs lack it" in caplog.text


def test_jobs_of_another_selection_of_data_are_refused(whole, tmp_path):
    """Two lumi masks in one dataset, or triggers that changed since: the sums would be of no card."""
    mask = tmp_path / "golden.json"
    mask.write_text("{}")
    about = {"test_only": False, "triggers": ["HLT_A"], "vetoes": [], "lumi_mask": file_hash(mask)}
    for name in ("muons_1.root", "muons_2.root"):
        whole.job("muons", name, settings_of_dataset=about)
    keys = ("datasets.2.triggers=[HLT_A]", f"datasets.2.lumi_mask={mask}")

    def jobs(card):
        with Merger(find_jobs(card)) as merger:
            refuse_stale(card, [job for several in merger.jobs.values() for job in several])

    jobs(whole.card(*keys))
    with pytest.raises(StudyError, match=r"made with another card, muons\.triggers changed since"):
        jobs(whole.card(keys[1]))
    mask.write_text('{"1": [[1, 2]]}')
    with pytest.raises(StudyError, match=r"muons\.lumi_mask changed since"):
        jobs(whole.card(*keys))
    whole.job("muons", "muons_2.root", settings_of_dataset={**about, "lumi_mask": file_hash(mask)})
    with pytest.raises(StudyError, match=r"of one dataset, were made with different settings of it \(lumi_mask\)"):
        jobs(whole.card(*keys))
    mask.unlink()
    whole.job("muons", "muons_2.root", settings_of_dataset=about)
    jobs(whole.card(*keys))
