"""The script of a chain: what batch systems call on the submit machine, between the stages."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

SCRIPT = """\
#!/usr/bin/env bash
# Steps of this chain on the submit machine: chain.sh before|after STAGE. Written by `submit chain`.
set -euo pipefail
chain="$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)"
cd {directory}
export PATH={path}
{variables}exec >>"$chain/log.txt" 2>&1
exec {python} -m pfnano_tag.submit.chain "$chain" "$@"
"""


def write_script(path: Path) -> None:
    """Write `chain.sh`: this Python, with what it was started with, where it was started."""
    kept = ("PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH", "X509_USER_PROXY", "BEARER_TOKEN_FILE")
    lines = [f"export {name}={shlex.quote(os.environ[name])}\n" for name in kept if name in os.environ]
    values = {
        "directory": shlex.quote(str(Path.cwd())),
        "path": shlex.quote(os.environ.get("PATH", os.defpath)),
        "python": shlex.quote(sys.executable),
        "variables": "".join(lines),
    }
    path.write_text(SCRIPT.format(**values), encoding="utf-8")
    path.chmod(0o755)
