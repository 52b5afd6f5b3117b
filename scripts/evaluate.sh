#!/usr/bin/env bash
# Performance in simulation: python -m pfnano_tag.evaluate
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"
exec python -m pfnano_tag.evaluate "$@"
