"""A chain: each stage when the one before it is complete, nothing twice, and what is known to fail not begun."""

import re
import subprocess
import sys

import pytest

import pfnano_tag.compare.stage
import pfnano_tag.prepare.stage
from pfnano_tag.card import read_card
from pfnano_tag.card.jobs import Report, next_attempt
from pfnano_tag.card.output import write_json
from pfnano_tag.errors import CardError, CheckpointError, Incomplete, StudyError
from pfnano_tag.submit import chain as chains
from pfnano_tag.submit import dag
from pfnano_tag.submit.chain import hand_over_chain, make_chain, read_chain, step
from pfnano_tag.submit.chain_plan import describe_chain, planned
from pfnano_tag.submit.chain_status import status_of_chain
from pfnano_tag.submit.jobfolder import read_job_folder
from pfnano_tag.submit.submission import submissions_of

CARD = """
study: {name: s, folder: it's a study}
generate: {samples: {ttbar: {process: ttbar, files: 2}}}
datasets:
- {name: train, files: 'data/*.root', kind: mc, roles: [train]}
- {name: dy, files: 'data/*.root', kind: mc, cross_section: 1, roles: [analyze]}
models: {a: {architecture: mlp}, b: {architecture: mlp}}
submit: {memory: 700}
"""


@pytest.fixture
def card(tmp_path, monkeypatch):
    """A study of three files and two networks."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in "xyz":
        (tmp_path / "data" / f"{name}.root").touch()
    (tmp_path / "card.yaml").write_text(CARD)
    return read_card("card.yaml")


@pytest.fixture
def done(card, monkeypatch):
    """Jobs that leave reports, with the exit code of `codes` or 0, and stages that note that they were called."""
    calls, codes = [], {}

    def run_local(job, indices, processes):
        calls.append((job.stage, tuple(indices)))
        for index in indices:
            folder = job.folder_of(index)
            code = codes.get((job.stage, index), 0)
            write_json(
                folder / "report.json", Report(next_attempt(folder), code, "error: said" if code else "").to_json()
            )

    def merge(card):
        calls.append("merge")
        write_json(card.folder / "prepared.json", {})

    monkeypatch.setattr(chains, "run_local", run_local)
    monkeypatch.setattr(pfnano_tag.prepare.stage, "run_merge", merge)
    monkeypatch.setattr(pfnano_tag.compare.stage, "run", lambda card: calls.append("compare"))
    return calls, codes


@pytest.fixture
def trained(monkeypatch):
    """Job folders of `analyze` need no checkpoints."""
    monkeypatch.setattr("pfnano_tag.submit.jobfolder._copy_study", lambda card, stage, study, models: study.mkdir())


def test_stages_follow_each_other_and_nothing_is_done_twice(card, done, trained):
    calls, _ = done
    chain = make_chain(card, "local", ["compare", "train", "prepare", "analyze"], ["a"])
    assert chain.stages == ("prepare", "train", "analyze", "compare")
    assert read_chain(chain.path) == chain
    hand_over_chain(card, chain)
    first = [("prepare", (0, 1, 2)), "merge", ("train", (0,)), ("analyze", (0, 1, 2)), "compare"]
    assert calls == first
    assert sorted(path.name for path in (card.folder / "jobs").iterdir() if path.is_dir()) == [
        "chain-0001", "chain-0001-analyze", "chain-0001-prepare", "chain-0001-train",
    ]  # fmt: skip
    assert [step.arguments for step in read_job_folder(chain.job_path("train")).items[0].steps] == [
        ("--model=a", "--resume")
    ]
    hand_over_chain(card, chain)
    assert calls[len(first) :] == [("prepare", ()), "merge", ("train", ()), ("analyze", ()), "compare"]


def test_jobs_of_a_chain_share_files_as_the_card_says(card, done, trained):
    calls, _ = done
    sharing = read_card("card.yaml", ["submit.parts=2"])
    assert planned(sharing, ["analyze", "compare"]) == {"analyze": 6, "compare": None}
    chain = make_chain(sharing, "local", ["analyze", "compare"])
    hand_over_chain(sharing, chain)
    assert calls == [("analyze", (0, 1, 2, 3, 4, 5)), "compare"]
    items = read_job_folder(chain.job_path("analyze")).items
    assert [item.steps[0].part for item in items] == ["1/2", "2/2"] * 3


def test_a_chain_stops_where_something_is_missing_and_goes_on_there(card, done, trained):
    calls, codes = done
    codes["prepare", 1] = 75
    chain = make_chain(card, "local")
    with pytest.raises(Incomplete, match=r"prepare: 1 of 3 items .*train/.*y-.*exit code 75: error: said.*goes on"):
        hand_over_chain(card, chain)
    assert calls == [("prepare", (0, 1, 2))]
    with pytest.raises(Incomplete, match="prepare lacks 1 items, so what comes after it can't begin"):
        chains.open_stage(card, chain, "train")
    with pytest.raises(Incomplete, match="has not come to analyze"):
        chains.compare(card, chain)
    codes.clear()
    codes["analyze", 2] = 2
    calls.clear()
    hand_over_chain(card, chain)  # `compare` itself says what it lacks
    assert calls == [("prepare", (1,)), "merge", ("train", (0, 1)), ("analyze", (0, 1, 2)), "compare"]
    assert submissions_of(read_job_folder(chain.job_path("prepare")))[-1].indices == (1,)


def test_what_is_known_to_fail_is_not_begun(card):
    for stages, models, words in (
        (["prepare", "training"], None, "--stages prepare,training: expected some of generate, prepare"),
        ([], None, "expected some of"),
        (["train"], ["c"], "no model 'c'"),
    ):
        with pytest.raises(CardError, match=words):
            make_chain(card, "local", stages, models)
    (card.folder / "models" / "b").mkdir(parents=True)
    with pytest.raises(StudyError, match="is there already"):
        make_chain(card, "local")
    assert not (card.folder / "jobs").exists()
    assert planned(card, ["generate", "prepare", "compare"]) == {"generate": 2, "prepare": None, "compare": None}
    with pytest.raises(StudyError, match="no chain: it has no chain.json"):
        read_chain(card.folder)


@pytest.mark.parametrize(
    ("backend", "place"),
    [("condor", "on this machine"), ("local", "on this machine"), ("slurm", "in the last link job")],
)
def test_a_dry_run_says_what_there_will_be_and_where(card, backend, place):
    assert describe_chain(card, backend, ["compare", "prepare"], None).splitlines() == [
        f"chain for {backend}",
        "prepare: 3 jobs, each 700 MB of memory, 120 minutes",
        f"compare: {place}, with all results that there are",
    ]
    assert not card.folder.exists()


def test_the_card_and_the_place_of_the_submission_are_kept(card, done, monkeypatch, tmp_path):
    chain = make_chain(card, "condor", ["prepare", "compare"])
    (tmp_path / "card.yaml").write_text("changed")
    assert read_card(chain.path / "card.yaml").hash() == card.hash()
    script = chain.path / "chain.sh"
    text = script.read_text()
    script.write_text(
        text.replace("-m pfnano_tag.submit.chain", "-c 'import os, sys; print(os.getcwd(), sys.argv[1:])'")
    )
    done = subprocess.run([script, "before", "prepare"], cwd="/", env={}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (chain.path / "log.txt").read_text() == f"{tmp_path} ['{chain.path}', 'before', 'prepare']\n".replace(
        f"'{chain.path}'", repr(str(chain.path))
    )
    assert sys.executable in text


def test_a_dag_has_a_node_per_stage_and_one_per_item(card, done, monkeypatch):
    calls, _ = done
    checked = []
    monkeypatch.setattr(dag, "check_lines", lambda *arguments: checked.append(arguments))
    chain = make_chain(card, "condor", ["prepare", "train", "compare"])
    assert dag.write(card, chain).endswith("condor_submit_dag -force -maxidle 0 -batch-name chain-0001 chain.dag)")
    lines = (chain.path / "chain.dag").read_text().splitlines()
    assert "PARENT prepare CHILD train" in lines
    assert "FINAL compare nothing.sub NOOP" in lines
    assert [line for line in lines if line.startswith("SCRIPT")] == [
        "SCRIPT PRE prepare chain.sh before prepare",
        "SCRIPT POST prepare chain.sh after prepare",
        "SCRIPT PRE train chain.sh before train",
        "SCRIPT POST train chain.sh after train",
        "SCRIPT PRE compare chain.sh before compare",
    ]
    step(chain.path, "before", "prepare")
    nodes = (chain.path / "prepare.dag").read_text().splitlines()
    assert nodes[:2] == [
        "JOB item0 ../chain-0001-prepare/submissions/001.sub",
        'VARS item0 index="0" memory="700"',
    ]
    assert len(nodes) == 6
    text = (chain.job_path("prepare") / "submissions" / "001.sub").read_text()
    assert re.search(r"\nqueue\n$", text)
    assert len(checked) == 1
    job = read_job_folder(chain.job_path("prepare"))
    for index, code in enumerate((0, 75, 0)):
        write_json(job.folder_of(index) / "report.json", Report(1, code).to_json())
    with pytest.raises(Incomplete):
        step(chain.path, "after", "prepare")
    (chain.path / "prepare.dag.rescue001").touch()
    step(chain.path, "before", "prepare")
    assert re.findall(r"JOB (\w+) (\S+)", (chain.path / "prepare.dag").read_text()) == [
        ("item1", "../chain-0001-prepare/submissions/002.sub")
    ]
    assert not (chain.path / "prepare.dag.rescue001").exists()
    write_json(job.folder_of(1) / "report.json", Report(2, 0).to_json())
    step(chain.path, "after", "prepare")
    assert calls == ["merge"]
    step(chain.path, "before", "prepare")
    assert (chain.path / "prepare.dag").read_text() == "JOB nothing nothing.sub NOOP\n"
    answers = {"condor_q": "", "condor_submit_dag": "1 job(s) submitted to cluster 12."}
    monkeypatch.setattr(dag, "ask", lambda command, **_: answers[command[0]])
    assert "submitted as 12" in hand_over_chain(card, chain)
    assert status_of_chain(chain).condition == "stopped"
    answers["condor_q"] = "12\n"
    assert status_of_chain(chain).condition == "under way"
    with pytest.raises(StudyError, match="is running already"):
        hand_over_chain(card, chain)


def test_the_status_names_the_step_that_failed_first(card):
    chain = make_chain(card, "condor", ["prepare", "compare"])
    said = "12:00:00 before prepare\nerror: no room\n12:00:01 before compare\nincomplete: nothing to compare\n"
    (chain.path / "log.txt").write_text(f"12:00:00 before prepare\nerror: earlier\n{said}")
    (chain.path / "steps.txt").write_text("submitted -1\nbefore prepare 2\nbefore compare 75\n")
    status = status_of_chain(chain)
    assert status.condition == "stopped"
    assert status.why.startswith("'before prepare' ended with exit code 2: error: no room (log: ")


def test_a_stage_whose_models_are_not_trained_is_refused(card, done):
    chain = make_chain(card, "local", ["analyze"])
    with pytest.raises(CheckpointError, match="no trained model 'a'"):
        hand_over_chain(card, chain)
