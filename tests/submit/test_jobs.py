"""Job folders and their worker script: any file name, the Python's own exit code, an output folder in any case."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pfnano_tag.card import read_card
from pfnano_tag.errors import CheckpointError, DataError, FileError, Incomplete, OutputError, UserError
from pfnano_tag.submit.condor import write_condor
from pfnano_tag.submit.jobfolder import write_job_folder
from pfnano_tag.submit.local import run_local
from pfnano_tag.submit.slurm import write_slurm
from pfnano_tag.submit.split import items_of

ODD = 'it\'s "a" $file; with [1] (odd) & ünusual name.root'

STAND_IN = """#!/usr/bin/env bash
# Stands in for python: writes what it was called with, then ends as the file's content says.
while [ "$#" -gt 0 ]; do
  case "$1" in
    --file) file="$2" ;;
    --output) output="$2" ;;
    --dataset) dataset="$2" ;;
    --set) set="$2" ;;
  esac
  case "$1" in --*) shift 2 ;; -m) module="$2"; shift 2 ;; *) card="$1"; shift ;; esac
done
mkdir -p "$(dirname "$output")"
printf '%s\\n' "$module" "$card" "$dataset" "$file" "$set" "$OMP_NUM_THREADS" "$PWD" >"$output"
echo "error: said by the stand-in" >&2
exit "$(cat "$file")"
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Make a study with three files whose names are odd, and a stand-in for python; return its card."""
    folder = tmp_path / "it's a place"
    data = folder / "data"
    data.mkdir(parents=True)
    for name in (ODD, "b.root", "c.root"):
        (data / name).write_text("0")
    python = folder / "my python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
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


def written(job, item):
    text = (job.output / item.dataset / item.name).read_text()
    return dict(zip(("module", "card", "dataset", "file", "set", "threads", "cwd"), text.splitlines(), strict=True))


def test_one_item_per_file_of_the_datasets_to_analyze(study):
    items = items_of(study)
    assert [(item.index, item.dataset, Path(item.file).name) for item in items] == [
        (0, "dy", ODD),
        (1, "muons", "b.root"),
        (2, "muons", "c.root"),
    ]
    assert all(Path(item.file).is_file() and Path(item.file).is_absolute() for item in items)
    assert [item.dataset for item in items_of(study, ["muons"])] == ["muons", "muons"]


def test_items_that_can_not_be_told_apart_are_refused(study):
    Path("data/more").mkdir()
    Path("data/more/b.root").write_text("0")
    Path("data/tab\there.root").write_text("0")
    card = read_card("card.yaml", ["datasets.muons.files=[data/**/b.root]"])
    with pytest.raises(DataError, match="share the output"):
        items_of(card)
    with pytest.raises(FileError, match="tab"):
        items_of(read_card("card.yaml", ["datasets.dy.files='data/tab*.root'"]))
    with pytest.raises(DataError, match="its role is train"):
        items_of(study, ["qcd"])


def test_the_same_file_named_twice_is_one_item(study):
    card = read_card("card.yaml", ["datasets.muons.files=[data/b.root, data/*.root]"])
    assert len(items_of(card, ["muons"])) == 3


def test_a_local_run_reaches_every_file_by_its_name(study):
    job = write_job_folder(study, items_of(study), None)
    assert job.path == (study.folder / "jobs" / "analyze-0001").absolute()
    run_local(job, processes=2)
    for item in job.items:
        found = written(job, item)
        assert found["module"] == "pfnano_tag.analyze"
        assert (found["dataset"], found["file"], found["threads"]) == (item.dataset, item.file, "2")
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
    job = write_job_folder(study, items_of(study), None)
    with pytest.raises(error) as caught:
        run_local(job, processes=1)
    for item, code in zip(job.items, ("0", *codes), strict=True):
        assert (f"{item.file}: exit code {code} (error: said by the stand-in; log: " in str(caught.value)) == (
            code != "0"
        )
        assert written(job, item)["file"] == item.file


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
    """Make the scratch folder of a job on another machine: what HTCondor transfers, and no more."""
    job = write_job_folder(study, items_of(study), tmp_path / "job")
    folder = tmp_path / "scratch"
    folder.mkdir()
    for name in (*job.inputs, "worker.sh"):
        source = job.path / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    return folder


def test_a_worker_elsewhere_has_all_it_needs(scratch):
    done = worker(scratch, "0")
    assert done.returncode == 0, done.stderr
    module, card, _, file, override, *_ = (scratch / "analysis" / "dy" / ODD).read_text().splitlines()
    assert (module, Path(file).name) == ("pfnano_tag.analyze", ODD)
    assert read_card(card, [override]).study.folder == scratch / "study"
    assert (scratch / "golden.json").is_file()
    assert (scratch / "corrections" / "muon.json").is_file()


def test_files_of_weights_that_a_job_can_not_find_are_refused(study, tmp_path):
    for file, words in (("../sf.json", "can't follow"), ("none.json", "no such file")):
        card = read_card("card.yaml", [f"weights.factors.muon.file={file}"])
        with pytest.raises(UserError, match=rf"weights\.factors\.muon: .*{words}"):
            write_job_folder(card, items_of(card), tmp_path / "job")


@pytest.mark.parametrize("code", [1, 2, 75, 130])
def test_the_exit_code_of_python_comes_back(scratch, study, code):
    Path("data/b.root").write_text(str(code))
    assert worker(scratch, "1").returncode == code


def test_a_batch_systems_signal_reaches_python(scratch):
    slow = 'trap "exit 75" TERM\ntouch started\nwhile true; do sleep 0.05; done\n'
    (scratch / "slow").write_text("#!/usr/bin/env bash\n" + slow)
    (scratch / "slow").chmod(0o755)
    (scratch / "settings.sh").write_text("python=./slow\nenvironment=\nthreads=1\n")
    running = subprocess.Popen(["/bin/bash", "./worker.sh", "1"], cwd=scratch, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not (scratch / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    running.terminate()
    out, _ = running.communicate(timeout=30)
    assert running.returncode == 75
    assert b"exit code 75" in out


@pytest.mark.parametrize("index", ["7", "x", ""])
def test_a_worker_that_fails_early_leaves_its_output_folder(scratch, index):
    assert worker(scratch, index).returncode != 0
    assert (scratch / "analysis").is_dir()


def test_a_packed_environment_is_unpacked_used_and_removed(scratch, tmp_path):
    packed = tmp_path / "packed" / "bin"
    packed.mkdir(parents=True)
    (packed / "python").write_text(STAND_IN.replace("exit ", 'echo "$UNPACKED" >>"$output"\nexit '))
    (packed / "python").chmod(0o755)
    (packed / "activate").write_text('export UNPACKED="yes$NOT_SET"\n')
    subprocess.run(["tar", "-czf", str(scratch / "environment.tar.gz"), "-C", str(packed.parent), "bin"], check=True)
    (scratch / "settings.sh").write_text("python=/nowhere\nenvironment=/elsewhere/environment.tar.gz\nthreads=1\n")
    done = worker(scratch, "1", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (scratch / "analysis/muons/b.root").read_text().endswith("yes\n")
    assert not list(tmp_path.glob("environment.*"))


def test_job_folders_are_whole_and_never_made_over(study):
    first = write_job_folder(study, items_of(study), None)
    second = write_job_folder(study, items_of(study), None)
    assert (first.path.name, second.path.name) == ("analyze-0001", "analyze-0002")
    with pytest.raises(OutputError, match="is there already"):
        write_job_folder(study, items_of(study), first.path)
    untrained = read_card("card.yaml", ["models.m.architecture=deepsets"])
    with pytest.raises(CheckpointError, match="no trained model 'm'"):
        write_job_folder(untrained, items_of(untrained), None)
    no_archive = read_card("card.yaml", ["submit.environment=none.tar.gz"])
    with pytest.raises(FileError, match="pack_env"):
        write_job_folder(no_archive, items_of(no_archive), None)
    assert sorted(path.name for path in first.path.parent.iterdir()) == ["analyze-0001", "analyze-0002"]


def test_condor_gets_its_settings_and_the_lines_of_the_site(study):
    card = read_card("card.yaml", ["submit.memory=3000", "submit.condor={+JobFlavour: '\"workday\"'}"])
    job = write_job_folder(card, items_of(card), None)
    assert "condor_submit analyze.sub" in write_condor(card, job)
    settings = dict(line.split(" = ", 1) for line in (job.path / "settings.sub").read_text().splitlines())
    assert (job.path / "queue.txt").read_text() == "0, dy\n1, muons\n2, muons\n"
    assert settings["memory"] == "3000"
    assert settings["+JobFlavour"] == '"workday"'
    assert all(Path(path).exists() for path in settings["inputs"].split(", "))
    assert Path(settings["study"]) == card.folder.absolute()
    with pytest.raises(OutputError, match="no comma"):
        write_condor(card, write_job_folder(card, items_of(card), Path("a,b")))


def test_slurm_splits_what_is_longer_than_an_array(study, monkeypatch, tmp_path):
    monkeypatch.setattr("pfnano_tag.submit.slurm.LONGEST_ARRAY", 2)
    card = read_card("card.yaml", ["submit.slurm={partition: short}"])
    job = write_job_folder(card, items_of(card), None)
    write_slurm(card, job)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sbatch").write_text(
        '#!/usr/bin/env bash\nrange=${1#--array=0-}\nscript=()\nfor word in "$@"; do\n'
        '  case "$word" in --*) echo "$word" >>options ;; *) script+=("$word") ;; esac\ndone\n'
        'for task in $(seq 0 "$range"); do SLURM_ARRAY_TASK_ID=$task bash "${script[@]}"; done\n'
    )
    (tools / "sbatch").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    subprocess.run(
        ["bash", str(job.path / "submit.sh")], env=environment, check=True, capture_output=True, timeout=60
    )
    assert [written(job, item)["file"] for item in job.items] == [item.file for item in job.items]
    options = Path("options").read_text().splitlines()
    assert options.count("--partition=short") == 2
    assert [option for option in options if "array" in option] == ["--array=0-1", "--array=0-0"]


def test_the_study_goes_along(study):
    study.folder.mkdir()
    (study.folder / "prepared.json").write_text(json.dumps({"a": 1}))
    job = write_job_folder(study, items_of(study), None)
    assert json.loads((job.path / "study" / "prepared.json").read_text()) == {"a": 1}
