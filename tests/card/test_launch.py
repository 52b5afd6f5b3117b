"""How a process was started: what torchrun and srun set, and what only looks like it."""

import pytest

from pfnano_tag.card import command
from pfnano_tag.card.launch import LOWEST_PORT, PORTS, Launch, first_host, launch_of
from pfnano_tag.errors import UserError

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
SRUN = {
    "SLURM_JOB_ID": "123456",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
}
SBATCH = {"SLURM_JOB_ID": "123456", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


def test_torchrun_and_srun_are_understood():
    assert launch_of(TORCHRUN) == Launch(3, 4, 1, "node1", 29500, "torchrun")
    found = launch_of(SRUN)
    assert found == Launch(2, 4, 0, "gpu07", found.port, "srun")
    assert LOWEST_PORT <= found.port < LOWEST_PORT + PORTS
    assert launch_of(SRUN | {"MASTER_ADDR": "node9", "MASTER_PORT": "777"}) == Launch(2, 4, 0, "node9", 777, "srun")
    assert launch_of({**SRUN, **TORCHRUN}) == launch_of(TORCHRUN)  # srun starts torchrun on each machine


@pytest.mark.parametrize("environment", [{}, SBATCH, SRUN | {"SLURM_STEP_NUM_TASKS": "1"}, {"RANK": "3"}])
def test_one_process_is_alone(environment):
    assert launch_of(environment) == Launch()
    assert launch_of({**TORCHRUN, "WORLD_SIZE": "1"}) == Launch()


def test_steps_of_a_job_meet_at_different_ports():
    ports = {launch_of(SRUN | {"SLURM_STEP_ID": str(step)}).port for step in range(10)}
    assert len(ports) == 10


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("login1", "login1"),
        ("login1,gpu[1-2]", "login1"),
        ("gpu[003-005,009],cpu1", "gpu003"),
        ("rack[2,4]node[01-08]", "rack2node01"),
        ("gpu-a[7].site.org,b", "gpu-a7.site.org"),
    ],
)
def test_first_host(nodes, host):
    assert first_host(nodes) == host


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({**TORCHRUN, "MASTER_PORT": ""}, "MASTER_PORT: not set"),
        ({**TORCHRUN, "RANK": "4"}, "torchrun started process 4 of 4"),
        ({**TORCHRUN, "WORLD_SIZE": "two"}, "WORLD_SIZE: 'two' is no whole number"),
        ({key: value for key, value in SRUN.items() if key != "SLURM_STEP_NODELIST"}, "SLURM_STEP_NODELIST: not set"),
    ],
)
def test_contradictions_are_named(environment, words):
    with pytest.raises(UserError, match=words):
        launch_of(environment)


def test_work_for_one_process_is_not_done_by_several(monkeypatch, capsys):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["evaluate", "nowhere.yaml"])
    with pytest.raises(SystemExit) as ended:
        command.main_of(command.parser_for("evaluate", ""), lambda card, options: None)
    assert ended.value.code == 2
    assert "4 processes were started" in capsys.readouterr().err
