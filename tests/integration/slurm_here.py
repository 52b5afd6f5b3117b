"""SLURM on this machine for tests: a node of two cores, or two of one, on the loopback address, with free ports.

There are no cgroups.

What is not the default of SLURM, and why:

- `cred_expire` is also how long a requeued job waits, 120 s by default, and at least 5.
- Without both settings of `CommunicationParameters` the daemons listen on all addresses.
- A job that takes more memory than it asked for is ended by the accounting of each second (`OverMemoryKill`); sites
  have cgroups for that.
- The node says that it has two GPUs, /dev/null and /dev/zero: jobs can ask for them.
- No accounting: `sacct` fails, as it does on many small sites. What has ended is known for `MinJobAge`.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.integration.batch import told_to_stop
from tests.integration.server import free_port

CONFIGURATION = """\
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=60
SlurmctldTimeout=30
SlurmdTimeout=60
MessageTimeout=60
MinJobAge=600
MaxArraySize=1001
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,bf_interval=1,batch_sched_delay=0,defer_batch=no
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=256
GresTypes=gpu
{nodes}
PartitionName=all Nodes={names} Default=YES MaxTime=30 DefaultTime=2 State=UP OverTimeLimit=0
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=6000 {more}"


class Slurm:
    """SLURM with one node, or with two, the first of which has a name that can be looked up.

    Parameters
    ----------
    folder : Path
        For configuration, state and logs; short, as a socket lies in it. Owned by root alone, as munge wants it.
    nodes : int
        One or two.
    """

    def __init__(self, folder: Path, nodes: int = 1) -> None:
        self.folder = folder
        (folder / "state").mkdir(parents=True)
        self.configuration = folder / "slurm.conf"
        key = folder / "munge.key"
        key.touch(mode=0o400)
        key.chmod(0o600)
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        host = socket.gethostname().partition(".")[0]
        self.nodes = (host,) if nodes == 1 else (host, f"{host}-2")
        each = {"cpus": 2 // nodes, "more": "Gres=gpu:2" if nodes == 1 else ""}
        lines = [NODE.format(name=name, host=host, port=free_port(), **each) for name in self.nodes]
        text = CONFIGURATION.format(
            host=host, folder=folder, port=free_port(), nodes="\n".join(lines), names=",".join(self.nodes)
        )
        self.configuration.write_text(text, encoding="utf-8")
        (folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n", encoding="utf-8")

    def start(self) -> None:
        """Start, and wait until the node takes jobs."""
        places = {"socket": "munge.socket", "key-file": "munge.key", "log-file": "munged.log"}
        places |= {"pid-file": "munged.pid", "seed-file": "munged.seed"}
        self._run(["munged", *(f"--{option}={self.folder / name}" for option, name in places.items())])
        self._run(["slurmctld"])
        for name in self.nodes:
            self._run(["slurmd", "-N", name])
        self.wait_for_nodes()

    def wait_for_nodes(self) -> None:
        """Wait until all nodes take jobs."""
        for _ in range(600):
            done = self._try(["sinfo", "--noheader", "--format=%T"])
            states = done.stdout.split()
            if states and set(states) <= {"idle", "mixed", "allocated"}:
                return
            time.sleep(0.1)
        raise RuntimeError(f"SLURM does not start; its logs:\n{self.logs()}")

    def stop(self) -> None:
        """End all jobs, then the daemons."""
        self._try(["scancel", "--user=root"])
        for _ in range(150):
            done = self._try(["squeue", "--noheader"])
            if done.returncode != 0 or not done.stdout.strip():
                break
            time.sleep(0.1)
        for name in (*(f"slurmd.{node}" for node in self.nodes), "slurmctld", "munged"):
            self.end(name)

    def end(self, daemon: str) -> None:
        """End a daemon, by its own number."""
        try:
            number = int((self.folder / f"{daemon}.pid").read_text())
        except (OSError, ValueError):
            return
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGTERM)
            for _ in range(100):
                os.kill(number, 0)
                time.sleep(0.1)
            os.kill(number, signal.SIGKILL)

    def freeze(self, daemon: str, frozen: bool = True) -> None:
        """Stop a daemon, or let it go on: it is there, and gives no answer."""
        number = int((self.folder / f"{daemon}.pid").read_text())
        os.kill(number, signal.SIGSTOP if frozen else signal.SIGCONT)

    def logs(self) -> str:
        """Return the last lines of all logs."""
        texts = {path.name: path.read_text(errors="replace").splitlines() for path in self.folder.glob("*.log")}
        return "\n".join(f"{name}: {line}" for name, lines in texts.items() for line in lines[-10:])

    def _try(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"SLURM_CONF": str(self.configuration)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def _run(self, command: Sequence[str]) -> None:
        """Start a daemon; its output is its log's, as it keeps pipes open."""
        environment = os.environ | {"SLURM_CONF": str(self.configuration)}
        with (self.folder / "start.log").open("ab") as log:
            subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)


@contextmanager
def running(nodes: int = 1) -> Iterator[Slurm]:
    """Run a SLURM, which all its commands then know; nothing is left of it, even when the tests are told to stop."""
    with told_to_stop(), tempfile.TemporaryDirectory(prefix="slurm.", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        made = Slurm(Path(folder), nodes)
        os.environ["SLURM_CONF"] = str(made.configuration)
        try:
            made.start()
            yield made
        finally:
            made.stop()
            del os.environ["SLURM_CONF"]
