#!/usr/bin/env bash
# Merges the jobs and compares data with simulation: python -m pfnano_tag.compare
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"
exec python -m pfnano_tag.compare "$@"
