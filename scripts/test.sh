#!/usr/bin/env bash
# Sets everything up, then runs every check that needs no service. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
source scripts/activate.sh
export OMP_NUM_THREADS=1

ruff check .
ruff format --check .
mypy
python -m pytest --numprocesses 2 "$@"
