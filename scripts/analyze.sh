#!/usr/bin/env bash
# The data/MC job of one file: python -m pfnano_tag.analyze
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"
exec python -m pfnano_tag.analyze "$@"
