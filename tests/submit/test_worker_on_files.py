"""The worker script with the real command: what a job leaves is what the command leaves by itself."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import uproot

from pfnano_tag.analyze import stage
from pfnano_tag.analyze.result import JobResult
from pfnano_tag.card import read_card
from pfnano_tag.card.folder import analysis_path
from pfnano_tag.card.jobs import collect_results, read_report
from pfnano_tag.compare.outputs import gather_jobs
from pfnano_tag.errors import CardError, CheckpointError
from pfnano_tag.submit.grouping import grouping_of
from pfnano_tag.submit.jobfolder import write_job_folder
from pfnano_tag.submit.local import run_local
from pfnano_tag.submit.split import items_of
from pfnano_tag.submit.stage import make
from pfnano_tag.submit.status import status_of


def same(first, second):
    """Whether two job outputs hold the same sums and histograms, to the last bit."""
    with JobResult(first) as a, JobResult(second) as b:
        assert a.sums == b.sums
        assert set(a.variables) == set(b.variables)
        for name in a.variables:
            one, two = a.read(name), b.read(name)
            assert np.array_equal(one.values, two.values)
            assert np.array_equal(one.variances, two.variances)
        return bool(a.variables)


def test_a_real_file_with_an_odd_name(shared_data, tmp_path):
    folder = tmp_path / "it's a place"
    folder.mkdir()
    file = folder / 'a "b" qcd.root'
    shutil.copy(shared_data / "pfnano_qcd_mc_2017UL_10ev.root", file)
    (folder / "card.yaml").write_text(
        f"study: {{name: real, folder: '{str(folder / 'study').replace(chr(39), chr(39) * 2)}'}}\n"
        "datasets: [{name: qcd, files: none.root, kind: mc, cross_section: 1000, roles: [analyze]}]\n"
        "histograms: {stored: all}\n"
    )
    quoted = str(file).replace("'", "''")
    quoted = str(file).replace("'", "''")
    card = read_card(folder / "card.yaml", [f"datasets.qcd.files='{quoted}'"])
    job = write_job_folder(card, "analyze", "local", items_of(card, "analyze"))
    run_local(job, [0], processes=1)
    assert collect_results(card) == 1
    direct = stage.run(card, "qcd", str(file), tmp_path / "direct.root")
    assert same(analysis_path(card, "qcd", str(file)), direct)
    report = read_report(job.folder_of(0))
    assert (report.events, report.chunks) == ((10, 10), (1, 1))
    assert report.memory > 50
    assert report.cpu > 0


SCAN = "models.wide={architecture: deepsets, scan: {grid: {arguments.phi: [[8], [16]]}}}"


@pytest.mark.parametrize(("overrides", "models"), [([], None), ([SCAN], ["small"])])
def test_a_worker_elsewhere_applies_the_networks_of_the_study(small_study, tmp_path, overrides, models):
    """All of the card, or those named: the trainings of a scan beside them need not be there."""
    card = read_card(small_study / "card.yaml", overrides)
    items = items_of(card, "analyze", ["data"], models)
    job = write_job_folder(card, "analyze", "condor", items, tmp_path / "job", models, link=False)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for name in (*job.inputs, "worker.sh", "items/0"):
        source = job.path / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, scratch / Path(name).name)
    subprocess.run(["bash", "./worker.sh", "0"], cwd=scratch, env={}, check=True, timeout=300, capture_output=True)
    direct = stage.run(card, "data", items[0].steps[0].file, tmp_path / "direct.root", models)
    assert same(scratch / "0" / items[0].outputs[0], direct)


def test_models_of_a_job_that_are_not_trained_or_not_there(small_study, tmp_path):
    card = read_card(small_study / "card.yaml", [SCAN])
    with pytest.raises(CheckpointError, match="no trained model 'wide_phi8'"):
        write_job_folder(card, "analyze", "local", items_of(card, "analyze"), tmp_path / "job", ["wide"])
    with pytest.raises(CardError, match="no model 'smal'"):
        write_job_folder(card, "analyze", "local", items_of(card, "analyze"), tmp_path / "job", ["smal"])
    assert not (tmp_path / "job").exists()


def test_jobs_that_share_a_file(small_study, tmp_path, caplog):
    """Their parts come back one by one; the comparison puts them together, to the bits of one job."""
    study = tmp_path / "study"
    shutil.copytree(small_study / "study", study, ignore=shutil.ignore_patterns("analysis", "jobs"))
    overrides = [f"study.folder='{study}'", "submit.parts=3", "resources.chunk=0.002"]
    card = read_card(small_study / "card.yaml", overrides)
    items = items_of(card, "analyze", ["data"], [], grouping_of(card, "analyze"))
    assert [item.name.rpartition(" ")[2] for item in items] == ["1/3", "2/3", "3/3"]
    job, submission = make(card, "analyze", "local", ["data"], [])
    run_local(job, [0, 2], processes=1)
    submission.write(job)
    first = status_of(card, job)
    assert [item.condition for item in first.items] == ["done", "lost", "done"]
    assert sum(item.events[1] for item in first.items if item.events) < len_of(items[0].steps[0].file)
    run_local(job, [1], processes=1)
    last = status_of(card, job)
    assert last.complete
    assert sum(item.events[0] for item in last.items) == len_of(items[0].steps[0].file)
    output = analysis_path(card, "data", items[0].steps[0].file)
    assert not output.exists()
    assert [jobs.paths for jobs in gather_jobs(card) if jobs.dataset.name == "data"] == [(output,)]
    assert status_of(card, job).complete
    direct = stage.run(card, "data", items[0].steps[0].file, tmp_path / "direct.root", [])
    assert same(output, direct)
    output.unlink()
    assert {item.why.partition(":")[0] for item in status_of(card, job).items} == {"its result is gone"}


def len_of(file):
    with uproot.open({file: "Events"}) as tree:
        return tree.num_entries
