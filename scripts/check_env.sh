#!/usr/bin/env bash
# Whether a packed environment works elsewhere:
#
#   bash scripts/check_env.sh ARCHIVE
#
# Unpacks it into a new folder, as a job would, with none of the shell's variables; imports from it, runs a command of
# it, and refuses what still comes from the folder that was packed, the checkout or the machine's own packages. Prints
# the seconds of unpacking and importing. Works on any machine that has the archive, its .json, and this checkout.
set -euo pipefail

fail() {
  echo "error: $*" >&2
  exit 2
}

[ "$#" = 1 ] || fail "expected one argument, the archive; found $#"
[ -f "$1" ] || fail "$1: no such archive; scripts/pack_env.sh makes one"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
archive="$(cd "$(dirname "$1")" && pwd)/$(basename "$1")"
scratch="$(mktemp -d "${TMPDIR:-$(dirname "$archive")}/check_env.XXXXXX")" || fail "no folder to unpack into"
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

cd "$scratch"
env -i PATH=/usr/local/bin:/usr/bin:/bin HOME="$scratch" TMPDIR="$scratch" PYTHONNOUSERSITE=1 OMP_NUM_THREADS=1 \
  PYTHONDONTWRITEBYTECODE=1 bash -euo pipefail -s "$root" "$archive" <<'WORKER'
root="$1" archive="$2"
# shellcheck source=../condor/unpack.sh
source "$root/condor/unpack.sh"
cache=""
seconds() { date +%s.%N; }
since() { awk -v began="$1" -v now="$(seconds)" 'BEGIN { printf "%.1f", now - began }'; }

began="$(seconds)"
use_environment "$archive"
echo "check: unpacked in $(since "$began") s"
began="$(seconds)"
"$python" - "$environment_folder" "$root" "$(description="$archive.json" && described prefix)" <<'PYTHON'
import os
import sys
import sysconfig

import pfnano_tag.analyze.stage  # noqa: F401 (all that a job reads)
import torch
import uproot

import pfnano_tag

prefix, checkout, packed = (os.path.realpath(folder) if folder else "" for folder in sys.argv[1:])
library = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
library += [os.path.join(sys.base_prefix, "lib", "python{}{}.zip".format(*sys.version_info[:2]))]
wrong = []


def within(path, folder):
    return bool(folder) and (path == folder or path.startswith(folder + os.sep))


def look(what, path):
    real = os.path.realpath(path)
    if within(real, prefix):
        return
    own = any(within(real, os.path.realpath(folder)) for folder in library)
    if not own or "site-packages" in real or "dist-packages" in real:
        wrong.append(f"{what}: {path}")


for path in sys.path[1:]:  # the first is that of a script on stdin: none
    look("sys.path", path)
for name, module in sorted(sys.modules.items()):
    if os.path.isabs(getattr(module, "__file__", None) or ""):  # some have only a name there
        look(f"module {name}", module.__file__)
with open("/proc/self/maps") as maps:
    mapped = {line.split(None, 5)[5].rstrip("\n") for line in maps if line.count("/")}
for path in sorted(mapped):
    if any(within(path, folder) and not within(path, prefix) for folder in (packed, checkout)):
        wrong.append(f"library {path}")
if wrong:
    sys.exit("error: not from the archive:\n  " + "\n  ".join(wrong))
print(f"check: Python {sys.version.split()[0]}, pfnano_tag {pfnano_tag.__version__}, torch {torch.__version__},"
      f" uproot {uproot.__version__}, all from the archive")
PYTHON
echo "check: started and imported in $(since "$began") s"
"$python" -m pfnano_tag.inspect --help </dev/null >/dev/null
echo "check: commands run"
WORKER
