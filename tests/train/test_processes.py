"""The command in two processes, started as torchrun and srun start it: stopped, killed, restarted, and one writes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pfnano_tag.card import read_card
from pfnano_tag.train import stage
from pfnano_tag.train.sharding import share_of
from tests.train.ranks import free_port
from tests.train.test_stream import study as _study

study = _study  # a fixture of another module
EPOCHS = 12


@pytest.fixture(scope="module")
def card(study, tmp_path_factory):
    """Card with two networks that are the same but for their names."""
    content = study[0].model_dump(mode="json")
    network = {"architecture": "deepsets", "arguments": {"dropout": 0.1}}
    content["models"] = {"whole": network, "parts": network}
    content["training"] |= {"epochs": EPOCHS, "batch_size": 64, "schedule": "constant"}
    path = tmp_path_factory.mktemp("processes") / "card.yaml"
    path.write_text(json.dumps(content))
    return path


def environment(**variables):
    return os.environ | {"OMP_NUM_THREADS": "1"} | {name: str(value) for name, value in variables.items()}


def srun(arguments, ranks=2):
    """The processes of a SLURM step, with the variables that srun gives them."""
    step = {"SLURM_JOB_ID": 1, "SLURM_STEP_ID": 0, "SLURM_STEP_NUM_TASKS": ranks, "SLURM_STEP_NODELIST": "localhost"}
    step |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    command = [sys.executable, "-m", "pfnano_tag.train", *map(str, arguments)]
    return [
        subprocess.Popen(
            command,
            env=environment(**step, SLURM_PROCID=rank, SLURM_LOCALID=rank),
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]


def ends(processes):
    """Exit codes, and what was said."""
    said = [process.communicate(timeout=300) for process in processes]
    return [process.returncode for process in processes], [out + err for out, err in said]


def wait_for_epochs(folder, count, alive):
    metrics = folder / "metrics.jsonl"
    while alive() and not (metrics.exists() and metrics.read_text().count("\n") >= count):
        time.sleep(0.02)
    assert alive()


def workers_of(agent):
    """Processes that torchrun has started, by rank."""
    found = {}
    for pid in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        variables = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        rank = [text.removeprefix("RANK=") for text in variables if text.startswith("RANK=")]
        if rank and "pfnano_tag.train" in Path(f"/proc/{pid}/cmdline").read_text():
            found[int(rank[0])] = int(pid)
    return found


def test_two_processes_stopped_killed_and_restarted_end_with_the_bits_of_an_uninterrupted_training(study, card):
    models = study[0].folder / "models"
    codes, (first, second) = ends(srun([card, "--model", "whole"]))
    assert codes == [0, 0], first + second
    assert "2 processes, with" in first
    assert "best epoch" in first
    assert "epoch" not in second

    stopped = srun([card, "--model", "parts"])
    wait_for_epochs(models / "parts", 2, lambda: all(process.poll() is None for process in stopped))
    stopped[1].terminate()
    codes, said = ends(stopped)
    assert codes == [75, 75], said
    assert "incomplete: rank 1: model parts: epoch" in said[1]

    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1"]
    torchrun += [
        "--master-port",
        str(free_port()),
        "-m",
        "pfnano_tag.train",
        str(card),
        "--model",
        "parts",
        "--resume",
    ]
    done = len((models / "parts" / "metrics.jsonl").read_text().splitlines())
    with subprocess.Popen(torchrun, env=environment(), stderr=subprocess.PIPE, text=True) as agent:
        wait_for_epochs(models / "parts", done + 2, lambda: agent.poll() is None)
        os.kill(workers_of(agent.pid)[1], signal.SIGKILL)
        words = agent.communicate(timeout=300)[1]
    assert agent.returncode == 0, words
    assert words.count("parts: deepsets") == 2, words

    for name in ("metrics.jsonl", "best.json"):
        assert (models / "whole" / name).read_text() == (models / "parts" / name).read_text()
    for number in range(1, EPOCHS + 1):
        one, other = (load_file(models / name / f"epoch_{number:04}.safetensors") for name in ("whole", "parts"))
        assert one.keys() == other.keys()
        assert all(bool((one[key] == other[key]).all()) for key in one)
    named = json.loads((models / "parts" / "epoch_0001.json").read_text())
    assert named["training"]["processes"] == 2


def test_the_plan_says_how_the_jets_are_shared(study, card, monkeypatch):
    for name, value in {
        "RANK": 0,
        "WORLD_SIZE": 2,
        "LOCAL_RANK": 0,
        "MASTER_ADDR": "there",
        "MASTER_PORT": 1,
    }.items():
        monkeypatch.setenv(name, str(value))
    text = stage.plan(read_card(str(card)))
    assert f"processes: 2, with {', '.join(map(str, share_of(study[1], 0, 2).training))} of the training jets" in text
    assert "memory of each process: about" in text
