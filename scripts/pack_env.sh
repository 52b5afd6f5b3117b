#!/usr/bin/env bash
# Packs the environment for batch jobs: bash scripts/pack_env.sh [ARCHIVE]   (default: environment.tar.gz)
# Name the archive in the card: submit.environment. A packed venv needs the same Python interpreter, at the same path,
# on the worker node; a packed conda environment needs nothing there.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"
archive="${1:-environment.tar.gz}"
case "$archive" in
  *.tar.gz | *.tar) ;;
  *)
    echo "error: $archive: the archive's name must end in .tar.gz or .tar" >&2
    exit 2
    ;;
esac
[ ! -d "$(dirname "$archive")" ] || archive="$(cd "$(dirname "$archive")" && pwd)/$(basename "$archive")"

prefix="$(python -c 'import sys; print(sys.prefix)')"
# The checkout is installed in place for development; a worker node has no checkout, so a copy is packed.
in_place_again() { python -m pip install --quiet --disable-pip-version-check --no-deps --editable "$root"; }
trap in_place_again EXIT
python -m pip install --quiet --disable-pip-version-check "${root}[pack]"

if [ -d "$prefix/conda-meta" ]; then
  python -m conda_pack --prefix "$prefix" --output "$archive" --force --quiet
else
  venv-pack --prefix "$prefix" --output "$archive" --force --quiet
fi
echo "packed $prefix into $archive ($(du -h "$archive" | cut -f1))"
