"""Job folders and their worker script: any file name, the Python's own exit code, an output folder in any case."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pfnano_tag.card import read_card
from pfnano_tag.card.jobs import collect_job, collect_results, read_report
from pfnano_tag.errors import CheckpointError, DataError, FileError, Incomplete, OutputError, UserError
from pfnano_tag.submit.grouping import Grouping
from pfnano_tag.submit.jobfolder import read_job_folder, write_job_folder
from pfnano_tag.submit.local import outcome, run_local
from pfnano_tag.submit.split import items_of
from pfnano_tag.submit.stage import describe as dry_run
from tests.submit.stand_ins import describe, executable, make_environment, pack_folder

ODD = 'it\'s "a" $file; with [1] (odd) & ünusual name.root'

STAND_IN = """#!/usr/bin/env bash
# Stands in for python: a runner is really run, under this name; a stage writes what it was called with, and ends as
# the file's content says.
if [ "$2" = pfnano_tag.submit.runner ]; then
  export PYTHONPATH=PATHS
  exec -a "$0" REAL "$@"
fi
sets=()
while [ "$#" -gt 0 ]; do
  case "$1" in
    --file=*) file="${1#--file=}"; shift ;;
    --output=*) output="${1#--output=}"; shift ;;
    --dataset=*) dataset="${1#--dataset=}"; shift ;;
    --set) sets+=("$2"); shift 2 ;;
    -m) module="$2"; shift 2 ;;
    *) card="$1"; shift ;;
  esac
done
mkdir -p "$(dirname "$output")"
printf '%s\\n' "$module" "$card" "$dataset" "$file" "${sets[0]}" "$OMP_NUM_THREADS" "$PWD" >"$output"
echo "error: said by the stand-in" >&2
exit "$(cat "$file")"
"""


def stand_in(path):
    """Write the stand-in for python to a path."""
    paths = ":".join(shlex.quote(entry or str(Path.cwd())) for entry in sys.path)
    path.write_text(STAND_IN.replace("PATHS", paths).replace("REAL", shlex.quote(os.path.realpath(sys.executable))))
    path.chmod(0o755)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Make a study with three files whose names are odd, and a stand-in for python; return its card."""
    folder = tmp_path / "it's a place"
    data = folder / "data"
    data.mkdir(parents=True)
    for name in (ODD, "b.root", "c.root"):
        (data / name).write_text("0")
    python = folder / "my python"
    stand_in(python)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.chdir(folder)
    (folder / "golden.json").write_text("{}")
    (folder / "corrections").mkdir()
    (folder / "corrections" / "muon.json").write_text("{}")
    card = folder / "card.yaml"
    card.write_text(
        "study: {name: s, folder: out put}\n"
        "datasets:\n"
        "- {name: dy, files: data/i*.root, kind: mc, cross_section: 6077}\n"
        "- {name: muons, files: [data/b.root, data/c.root], kind: data, luminosity: 1, lumi_mask: golden.json,"
        " roles: [analyze]}\n"
        "- {name: qcd, files: data/none.root, kind: mc, roles: [train]}\n"
        "weights: {factors: {muon: {kind: correctionlib, file: corrections/muon.json, correction: id, inputs: {}}}}\n"
        "resources: {threads: 2}\n"
    )
    return read_card(card)


def job_of(card, folder=None, backend="local", **options):
    return write_job_folder(card, "analyze", backend, items_of(card, "analyze"), folder, **options)


def file_of(item):
    return item.steps[0].file


def written(job, item):
    text = (job.folder_of(item.index) / item.outputs[0]).read_text()
    return dict(zip(("module", "card", "dataset", "file", "set", "threads", "cwd"), text.splitlines(), strict=True))


def test_one_item_per_file_of_the_datasets_to_analyze(study):
    items = items_of(study, "analyze")
    assert [(item.index, item.name, Path(file_of(item)).name) for item in items] == [
        (0, f"dy/{Path(ODD).stem}", ODD),
        (1, "muons/b", "b.root"),
        (2, "muons/c", "c.root"),
    ]
    assert all(Path(file_of(item)).is_file() and Path(file_of(item)).is_absolute() for item in items)
    assert [item.name for item in items_of(study, "analyze", ["muons"])] == ["muons/b", "muons/c"]
    together = items_of(study, "analyze", grouping=Grouping(files=2))
    assert [item.outputs for item in together] == [
        (f"analysis/dy/{ODD}",),
        ("analysis/muons/b.root", "analysis/muons/c.root"),
    ]


def test_items_that_can_not_be_told_apart_are_refused(study):
    Path("data/more").mkdir()
    Path("data/more/b.root").write_text("0")
    Path("data/line\nbreak.root").write_text("0")
    card = read_card("card.yaml", ["datasets.muons.files=[data/**/b.root]"])
    with pytest.raises(DataError, match="share the output"):
        items_of(card, "analyze")
    with pytest.raises(FileError, match="line break"):
        items_of(read_card("card.yaml", ["datasets.dy.files='data/line*.root'"]), "analyze")
    with pytest.raises(DataError, match="its role is train"):
        items_of(study, "analyze", ["qcd"])


def test_the_same_file_named_twice_is_one_item(study):
    card = read_card("card.yaml", ["datasets.muons.files=[data/b.root, data/*.root]"])
    assert len(items_of(card, "analyze", ["muons"])) == 3


def test_a_local_run_reaches_every_file_by_its_name(study):
    job = job_of(study)
    assert job.path == (study.folder / "jobs" / "analyze-0001").absolute()
    assert read_job_folder(job.path) == job
    run_local(job, [0, 1, 2], processes=2)
    outcome(job, [0, 1, 2])
    for item in job.items:
        found = written(job, item)
        assert found["module"] == "pfnano_tag.analyze"
        assert (found["file"], found["threads"]) == (file_of(item), "2")
        assert found["dataset"] == item.name.partition("/")[0]
        inner = read_card(found["card"], [found["set"]])
        assert inner.study.folder == job.path / "study"
        assert inner.hash("datasets", "jets", "regions") == study.hash("datasets", "jets", "regions")


@pytest.mark.parametrize(
    ("codes", "error"),
    [(("0", "75"), Incomplete), (("2", "75"), DataError), (("2", "1"), RuntimeError), (("137", "0"), RuntimeError)],
)
def test_failed_items_are_named_and_keep_no_other_from_running(study, codes, error):
    Path("data/b.root").write_text(codes[0])
    Path("data/c.root").write_text(codes[1])
    job = job_of(study)
    run_local(job, [0, 1, 2], processes=1)
    with pytest.raises(error) as caught:
        outcome(job, [0, 1, 2])
    for item, code in zip(job.items, ("0", *codes), strict=True):
        words = f"{file_of(item)}: exit code {code} (error: said by the stand-in; log: "
        assert (words in str(caught.value)) == (code != "0")
        assert written(job, item)["file"] == file_of(item)


def test_results_are_collected_once_and_only_when_they_are_whole(study):
    Path("data/b.root").write_text("75")
    Path("data/c.root").write_text("2")
    job = job_of(study)
    run_local(job, [0, 1, 2], processes=2)
    whole, partial, bad = (job.folder_of(item.index) / item.outputs[0] for item in job.items)
    text = whole.read_text()
    whole.write_text(text[:-3])  # half transferred
    assert collect_results(study) == 1
    there = study.folder / "analysis"
    assert [path.name for path in there.rglob("*.root")] == ["b.root"]
    assert partial.exists()  # the job needs it when it goes on
    whole.write_text(text)
    assert collect_job(study, job.path) == 1
    assert (there / "dy" / ODD).read_text() == text
    assert not whole.exists()
    assert bad.exists()
    assert collect_results(study) == 0
    Path("data/b.root").write_text("0")
    run_local(job, [1], processes=1)
    assert read_report(job.folder_of(1)).attempt == 2
    assert collect_results(study) == 1
    assert not partial.exists()


def test_a_stage_that_leaves_no_result_is_not_complete(study):
    stand = Path(sys.executable)
    stand.write_text(stand.read_text().replace("mkdir -p", "exit 0; mkdir -p"))
    job = job_of(study)
    run_local(job, [1], processes=1)
    report = read_report(job.folder_of(1))
    assert report.code == 1
    assert "left no analysis/muons/b.root" in report.error
    assert collect_results(study) == 0


def worker(folder, *arguments, **environment):
    """Run the worker script as HTCondor does: in a scratch folder, with next to no environment."""
    return subprocess.run(
        ["/bin/bash", "./worker.sh", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def scratch(study, tmp_path):
    """Make the scratch folder of jobs on another machine: what HTCondor transfers, and no more."""
    job = job_of(study, tmp_path / "job", "condor")
    folder = tmp_path / "scratch"
    folder.mkdir()
    for name in (*job.inputs, "worker.sh", *(f"items/{item.index}" for item in job.items)):
        source = job.path / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / Path(name).name)
    return folder


def test_a_worker_elsewhere_has_all_it_needs(scratch):
    done = worker(scratch, "0")
    assert done.returncode == 0, (scratch / "0" / "log.txt").read_text()
    lines = (scratch / "0" / "analysis" / "dy" / ODD).read_text().splitlines()
    module, card, _, file, override, _, directory = lines
    assert (module, Path(file).name) == ("pfnano_tag.analyze", ODD)
    assert read_card(card, [override]).study.folder == scratch / "study"
    assert (Path(directory) / "golden.json").is_file()
    assert (Path(directory) / "corrections" / "muon.json").is_file()
    report = read_report(scratch / "0")
    assert (report.code, report.attempt, report.results) == (0, 1, (f"analysis/dy/{ODD}",))


def test_files_of_weights_that_a_job_can_not_find_are_refused(study, tmp_path):
    for file, words in (("../sf.json", "can't follow"), ("none.json", "no such file")):
        card = read_card("card.yaml", [f"weights.factors.muon.file={file}"])
        with pytest.raises(UserError, match=rf"weights\.factors\.muon: .*{words}"):
            job_of(card, tmp_path / "job")


@pytest.mark.parametrize("code", [1, 2, 75, 130])
def test_the_exit_code_of_python_comes_back(scratch, study, code):
    Path("data/b.root").write_text(str(code))
    assert worker(scratch, "1").returncode == code
    assert read_report(scratch / "1").code == code


@pytest.mark.parametrize("trap", ["trap 'exit 75' TERM", "# not yet ready for signals, or no longer"])
def test_a_batch_systems_signal_reaches_the_stage(scratch, trap):
    stand = Path(sys.executable)
    slow = f"{trap}\ntouch started\nwhile true; do sleep 0.05; done\n"
    stand.write_text(stand.read_text().replace("sets=()\n", slow))
    running = subprocess.Popen(["/bin/bash", "./worker.sh", "1"], cwd=scratch)
    started = scratch / "inputs" / "started"
    deadline = time.monotonic() + 30
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    running.terminate()
    assert running.wait(timeout=30) == 75
    assert read_report(scratch / "1").code == 75


@pytest.mark.parametrize(("line", "code"), [("AllowedJobDuration = 4", 75), ("AllowedJobDuration = 900", 0), ("", 0)])
def test_a_stage_stops_before_htcondor_puts_its_job_on_hold(scratch, line, code):
    stand = Path(sys.executable)
    slow = "trap 'exit 75' TERM\nfor ((i = 0; i < 60; i++)); do sleep 0.05; done\n"
    stand.write_text(stand.read_text().replace("sets=()\n", f"sets=()\n{slow}"))
    (scratch / ".job.ad").write_text(f'Args = "1"\n{line}\nCpus = 1\n')
    done = worker(scratch, "1", _CONDOR_JOB_AD=str(scratch / ".job.ad"))
    assert done.returncode == code, (scratch / "1" / "log.txt").read_text()
    assert read_report(scratch / "1").code == code


@pytest.mark.parametrize("index", ["7", "x"])
def test_a_worker_that_fails_early_leaves_its_folder(scratch, index):
    assert worker(scratch, index).returncode != 0
    assert (scratch / index).is_dir()


def test_a_worker_without_python_leaves_a_report(scratch):
    settings = scratch / "settings.sh"
    settings.write_text("python=/nowhere/python\nthreads=1\n")
    assert worker(scratch, "1").returncode == 127
    assert worker(scratch, "1").returncode == 127
    report = read_report(scratch / "1")
    assert (report.code, report.attempt) == (127, 2)
    assert "log.txt" in report.error
    assert "/nowhere/python" in (scratch / "1" / "log.txt").read_text()


@pytest.fixture
def packed(study, tmp_path):
    """Make an archive whose python is the stand-in; return its path."""
    folder = make_environment(tmp_path / "to pack", conda=False)
    stand = Path(sys.executable).read_text()
    asked = 'if [ "$1" = -c ]; then echo 3.11.7; exit; fi\n'
    executable(folder / "bin" / "python", stand.replace("bash\n", f"bash\n{asked}", 1))
    archive = pack_folder(folder, tmp_path / "my environment.tar.gz")
    describe(archive)
    return archive


def test_a_packed_environment_is_unpacked_used_and_removed(packed, tmp_path):
    card = read_card("card.yaml", [f"submit.environment='{packed}'"])
    job = job_of(card, tmp_path / "job", "condor")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    sources = [*(job.path / name for name in (*job.inputs, "worker.sh", "items/1")), packed, Path(f"{packed}.json")]
    for source in sources:
        (shutil.copytree if source.is_dir() else shutil.copy)(source, scratch / source.name)
    (packed.rename(tmp_path / "moved.tar.gz"))
    done = worker(scratch, "1", TMPDIR=str(tmp_path))
    assert done.returncode == 0, (scratch / "1" / "log.txt").read_text()
    assert "unpacked in" in (scratch / "1" / "log.txt").read_text()
    assert read_report(scratch / "1").code == 0
    assert not list(tmp_path.glob("pfnano_tag.*"))


def test_a_broken_environment_is_told_in_the_report(packed, tmp_path):
    card = read_card("card.yaml", [f"submit.environment='{packed}'"])
    job = job_of(card)
    with packed.open("ab") as file:
        file.write(b"more")
    with pytest.raises(FileError, match="environment"):
        job_of(card)
    run_local(job, [1], processes=1)
    report = read_report(job.folder_of(1))
    assert report.code == 2
    assert "SHA-256" in report.error


def test_being_told_to_stop_while_unpacking_is_incomplete(packed, tmp_path):
    card = read_card("card.yaml", [f"submit.environment='{packed}'"])
    job = job_of(card)
    (job.path / "unpack.sh").write_text("use_environment() { touch started; sleep 20; }\n")
    running = subprocess.Popen(["/bin/bash", str(job.path / "worker.sh"), "1", str(job.path)], cwd=tmp_path)
    deadline = time.monotonic() + 30
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    running.terminate()
    assert running.wait(timeout=40) == 75
    assert read_report(job.folder_of(1)).code == 75


def test_scripts_around_the_stage_run_outside_its_environment(study, tmp_path):
    Path("before me.sh").write_text('echo "before $1 ${OMP_NUM_THREADS:-}" >>"$1/said"\n')
    Path("after.sh").write_text('echo "after" >>"$1/said"; ls "$1/analysis" >>"$1/said"\n')
    card = read_card("card.yaml", ["submit.before=before me.sh", "submit.after=after.sh"])
    job = job_of(card)
    run_local(job, [1], processes=1)
    said = (job.folder_of(1) / "said").read_text().splitlines()
    assert said[0].startswith(f"before {job.folder_of(1)}")
    assert said[1:] == ["after", "muons"]
    with pytest.raises(FileError, match=r"submit\.before: none\.sh"):
        job_of(read_card("card.yaml", ["submit.before=none.sh"]))


def test_job_folders_are_whole_and_never_made_over(study, tmp_path):
    first, second = job_of(study), job_of(study)
    assert (first.path.name, second.path.name) == ("analyze-0001", "analyze-0002")
    with pytest.raises(OutputError, match="is there already"):
        job_of(study, first.path)
    untrained = read_card("card.yaml", ["models.m.architecture=deepsets"])
    with pytest.raises(CheckpointError, match="no trained model 'm'"):
        job_of(untrained)
    no_archive = read_card("card.yaml", ["submit.environment=none.tar.gz"])
    with pytest.raises(FileError, match="pack_env"):
        job_of(no_archive)
    elsewhere = job_of(study, tmp_path / "else" / "where")
    assert (study.folder / "jobs" / "where").resolve() == elsewhere.path
    assert sorted(path.name for path in first.path.parent.iterdir()) == ["analyze-0001", "analyze-0002", "where"]


def test_a_dry_run_shows_everything_and_leaves_nothing(study):
    for backend, words in (("condor", "queue index, memory from"), ("slurm", "sbatch"), ("local", "worker.sh")):
        text = dry_run(study, "analyze", backend)
        assert "3 jobs of analyze" in text
        assert ODD in text
        assert words in text
    assert not study.folder.exists()


def test_the_study_goes_along(study):
    study.folder.mkdir()
    (study.folder / "prepared.json").write_text(json.dumps({"a": 1}))
    job = job_of(study)
    assert json.loads((job.path / "study" / "prepared.json").read_text()) == {"a": 1}
