"""HTCondor on this machine for tests: a pool of one machine on the loopback address, with a free port, no cgroups.

What is not the default of HTCondor, and why:

- Root may not submit: all of it runs under another name, in a user namespace where that is who root is.
- Memory is looked at each second; a job that has too much is held (`HOLD_IF_MEMORY_EXCEEDED`). Sites have cgroups.
- A machine that has put a job on hold waits for its submit machine until the lease of the job ends: it is short.
- DAGMan would wait five seconds, and more, between its looks at the queue.
- Proxies are copied: in this version (23.9) their delegation fails, and jobs never start. They are looked at each ten
  minutes by default.
"""

from __future__ import annotations

import os
import pwd
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.integration.server import free_port

ACCOUNT = "games"
"""Any account but root's and nobody's."""
CONFIGURATION = """\
RELEASE_DIR = {release}
BIN = $(RELEASE_DIR)/bin
SBIN = $(RELEASE_DIR)/sbin
LIB = $(RELEASE_DIR)/lib/condor
LIBEXEC = $(RELEASE_DIR)/libexec/condor
SHARE = $(RELEASE_DIR)/share/condor
LOCAL_DIR = {folder}
RUN = $(LOCAL_DIR)/run
LOG = $(LOCAL_DIR)/log
LOCK = $(LOCAL_DIR)/lock
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
CRED_STORE_DIR = $(LOCAL_DIR)/credentials
SEC_TOKEN_SYSTEM_DIRECTORY = $(LOCAL_DIR)/tokens
SEC_PASSWORD_DIRECTORY = $(LOCAL_DIR)/passwords
use ROLE: CentralManager
use ROLE: Submit
use ROLE: Execute
CONDOR_HOST = 127.0.0.1
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
NO_DNS = True
DEFAULT_DOMAIN_NAME = localdomain
UID_DOMAIN = here
TRUST_UID_DOMAIN = True
COLLECTOR_PORT = {port}
COLLECTOR_HOST = $(CONDOR_HOST):{port}
USE_SHARED_PORT = False
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_AUTHENTICATION_METHODS = FS
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_DAEMON = *
ALLOW_NEGOTIATOR = *
ALLOW_ADMINISTRATOR = {account}@$(UID_DOMAIN)
START = True
SUSPEND = False
PREEMPT = False
KILL = False
RANK = 0
NUM_CPUS = 3
MEMORY = 8000
NUM_SLOTS = 1
NUM_SLOTS_TYPE_1 = 1
SLOT_TYPE_1 = 100%
SLOT_TYPE_1_PARTITIONABLE = True
BASE_CGROUP =
use POLICY: HOLD_IF_MEMORY_EXCEEDED
PID_SNAPSHOT_INTERVAL = 1
PROCD_MAX_SNAPSHOT_INTERVAL = 1
JOB_DEFAULT_LEASE_DURATION = 20
SCHEDD_INTERVAL = 2
SCHEDD_MIN_INTERVAL = 1
PERIODIC_EXPR_INTERVAL = 2
MAX_PERIODIC_EXPR_INTERVAL = 2
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_MIN_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
STARTER_UPDATE_INTERVAL = 2
STARTER_INITIAL_UPDATE_INTERVAL = 1
SHADOW_QUEUE_UPDATE_INTERVAL = 2
SHADOW_LAZY_QUEUE_UPDATE = False
UPDATE_INTERVAL = 5
POLLING_INTERVAL = 2
RUNBENCHMARKS = 0
JOB_START_DELAY = 0
SHUTDOWN_GRACEFUL_TIMEOUT = 20
DAGMAN_USER_LOG_SCAN_INTERVAL = 1
DAGMAN_SUBMIT_DELAY = 0
DELEGATE_JOB_GSI_CREDENTIALS = False
SHADOW_CHECKPROXY_INTERVAL = 2
"""
FOLDERS = ("run", "log", "lock", "spool", "execute", "credentials", "tokens", "passwords", "bin")


class Pool:
    """A pool of this machine.

    Parameters
    ----------
    release : Path
        Where HTCondor is: a folder with bin, sbin, lib.
    folder : Path
        For configuration, queue and logs; short.
    """

    def __init__(self, release: Path, folder: Path) -> None:
        self.folder, self._release = folder, release
        for name in FOLDERS:
            (folder / name).mkdir(parents=True)
        for name in ("tokens", "passwords"):
            (folder / name).chmod(0o700)
        self._configuration = folder / "condor_config"
        user = pwd.getpwnam(ACCOUNT) if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        text = CONFIGURATION.format(release=release, folder=folder, port=free_port(), account=user.pw_name)
        self._configuration.write_text(text, encoding="utf-8")
        self._variables = {"CONDOR_CONFIG": str(self._configuration), "USER": user.pw_name, "LOGNAME": user.pw_name}
        self._as_user = (
            ["unshare", "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}"]
            if os.getuid() == 0
            else []
        )
        self._master: subprocess.Popen[bytes] | None = None
        self._write_tools()

    @property
    def tools(self) -> Path:
        """Folder of the commands `condor_*`, for PATH."""
        return self.folder / "bin"

    def start(self) -> None:
        """Start, and wait until the pool has a machine and a queue."""
        command = [*self._as_user, str(self._release / "sbin" / "condor_master"), "-f"]
        with (self.folder / "log" / "master.out").open("wb") as out:
            self._master = subprocess.Popen(
                command,
                cwd="/",
                env={"PATH": "/usr/bin:/usr/sbin:/bin", "HOME": str(self.folder), **self._variables},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        for _ in range(300):
            if all(self._asked("condor_status", *which, "-af", "Name") for which in ((), ("-schedd",))):
                return
            if self._master.poll() is not None:
                break
            time.sleep(0.2)
        raise RuntimeError(f"HTCondor does not start; its logs:\n{self.logs()}")

    def stop(self) -> None:
        """End all jobs, then the daemons."""
        if self._master is None:
            return
        self._asked("condor_rm", "-all")
        self._master.send_signal(signal.SIGQUIT)
        try:
            self._master.wait(timeout=60)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._master.pid, signal.SIGKILL)
            self._master.wait(timeout=20)
        self._master = None

    def logs(self) -> str:
        """Return the ends of the daemons' logs."""
        paths = [path for path in sorted((self.folder / "log").iterdir()) if path.is_file()]
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-2000:]}" for path in paths)

    def _asked(self, name: str, *arguments: str) -> str:
        done = subprocess.run(
            [self.tools / name, *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout.strip()

    def _write_tools(self) -> None:
        """Write commands that know the pool, and run as its user."""
        exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in self._variables.items())
        for program in (self._release / "bin").glob("condor_*"):
            tool = self.tools / program.name
            run = shlex.join([*self._as_user, str(program)])
            tool.write_text(f'#!/bin/sh\n{exports}exec {run} "$@"\n', encoding="utf-8")
            tool.chmod(0o755)
