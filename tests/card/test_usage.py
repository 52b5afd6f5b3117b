"""What processes of a job took: left by each where it is asked for, and nowhere else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pfnano_tag.card.usage import VARIABLE, usage_in, usage_left
from pfnano_tag.submit.runner import Runner

WORK = """\
import time
filled, begun = b'x' * 200_000_000, time.process_time()
while time.process_time() < begun + 0.4:
    pass
"""


def test_nothing_is_left_unless_asked_for(tmp_path):
    with usage_left({}):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_it_too(tmp_path):
    with pytest.raises(ValueError, match="bad"), usage_left({VARIABLE: str(tmp_path)}):
        raise ValueError("bad")
    cpu, memory = usage_in(tmp_path)
    assert cpu > 0
    assert memory > 10


def test_what_can_not_be_left_changes_nothing_but_a_line_in_the_log(tmp_path, caplog):
    (tmp_path / "a file").write_text("")
    with usage_left({VARIABLE: str(tmp_path / "a file")}):
        done = True
    assert done
    assert "are not known to the job's report" in caplog.text


def test_times_add_up_and_the_largest_memory_counts(tmp_path):
    for name, content in {"a": '{"cpu": 2.0, "memory": 10.0}', "b": '{"cpu": 3.5, "memory": 7.0}'}.items():
        (tmp_path / f"{name}.json").write_text(content)
    assert usage_in(tmp_path) == (5.5, 10.0)
    assert usage_in(tmp_path / "none") == (0, 0.0)


@pytest.mark.parametrize("tasks", [1, 3])
def test_a_runner_measures_what_srun_starts_elsewhere(tmp_path, monkeypatch, tasks):
    """A stand-in for srun, whose tasks are no children that it waits for."""
    script = tmp_path / "work.py"
    script.write_text(f"from pfnano_tag.card.usage import usage_left\nwith usage_left():\n  exec({WORK!r})\n")
    srun = tmp_path / "srun"
    srun.write_text(
        f"#!{sys.executable}\nimport subprocess, sys, time, os, glob\n"
        f"for _ in range({tasks}): subprocess.Popen(['setsid', '-f', {sys.executable!r}, {str(script)!r}])\n"
        f"while len(glob.glob(os.environ[{VARIABLE!r}] + '/*.json')) < {tasks}: time.sleep(0.05)\n"
    )
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path))
    runner = object.__new__(Runner)
    runner.folder, runner._stopped, runner._process = tmp_path, None, None
    monkeypatch.setattr(Runner, "_directory", lambda self: tmp_path)
    code, cpu, memory = runner._measured(["srun", "anything"])
    assert code == 0
    assert cpu > 0.4 * tasks
    assert memory > 200
    assert not (tmp_path / "usage").exists()


def test_a_command_leaves_it_at_its_end(tmp_path):
    variables = os.environ | {VARIABLE: str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "pfnano_tag.compare", "no card.yaml"], env=variables, capture_output=True, check=False
    )
    assert done.returncode == 2
    cpu, memory = usage_in(tmp_path)
    assert cpu > 0
    assert memory > 10
