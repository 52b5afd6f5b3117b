# shellcheck shell=bash
# Sourced by the other scripts: puts the environment that setup.sh made first in PATH.
# PFNANO_TAG_ENV: `venv` or `conda` wants that kind; `current` takes the Python of the calling shell as it is.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

activate() {
  local kind="${PFNANO_TAG_ENV:-}"
  if [ "$kind" = current ]; then
    export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
  elif [ "$kind" != venv ] && [ -e "$root/.conda/pfnano_tag.stamp" ]; then
    export CONDA_PREFIX="$root/.conda" PATH="$root/.conda/bin:$PATH"
  elif [ "$kind" != conda ] && [ -e "$root/.venv/pfnano_tag.stamp" ]; then
    export VIRTUAL_ENV="$root/.venv" PATH="$root/.venv/bin:$PATH"
  else
    echo "error: there is no environment in $root; run: bash '$root/scripts/setup.sh'" >&2
    return 2
  fi
}

activate
