#!/usr/bin/env bash
# Scores of all jets of a file, aligned with its events: python -m pfnano_tag.infer
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"
exec python -m pfnano_tag.infer "$@"
