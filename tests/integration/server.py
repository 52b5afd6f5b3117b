"""An XRootD server on this machine for tests: started, killed, frozen and started again at will."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

CONFIGURATION = """\
all.role server
all.export /store r/o
all.adminpath {admin}
all.pidpath {admin}
oss.localroot {root}
xrd.port {port}
xrd.allow host localhost
xrd.network nodnr norpipa
"""
ACCOUNT = "xrootd"
"""The server refuses to run as root; Debian's package makes this account."""


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server of the files below `root/store`, on a port of its own.

    Parameters
    ----------
    folder : Path
        For configuration and logs; short, as sockets lie in it.
    root : Path
        Files to serve.
    extra : str
        Further lines of configuration.
    """

    def __init__(self, folder: Path, root: Path, extra: str = "") -> None:
        self.port, self.folder, self._process = free_port(), folder, None
        admin = folder / "admin"
        admin.mkdir(parents=True)
        self._configuration = folder / "server.cfg"
        text = CONFIGURATION.format(admin=admin, root=root, port=self.port)
        self._configuration.write_text(text + extra, encoding="utf-8")
        if os.getuid() == 0:
            for path in (folder, admin):
                shutil.chown(path, ACCOUNT, ACCOUNT)
        self._process: subprocess.Popen[bytes] | None

    def address(self, name: str) -> str:
        """Return the address of a file below `root/store`."""
        return f"root://127.0.0.1:{self.port}//store/{name}"

    def start(self) -> None:
        """Start, and wait until it listens."""
        account = ["-R", ACCOUNT] if os.getuid() == 0 else []
        log = self.folder / "server.log"
        command = ["xrootd", *account, "-c", str(self._configuration), "-l", str(log), "-I", "v4"]
        command += ["-s", str(self.folder / "server.pid")]  # its list of variables is written beside it
        self._process = subprocess.Popen(
            command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"the server does not start; its log:\n{_text(self.folder)}")

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(timeout=20)
            self._process = None

    def freeze(self) -> None:
        """Stop it: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


def _text(folder: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.rglob("*.log")))
