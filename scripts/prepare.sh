#!/usr/bin/env bash
# Cleaning, labels, defaults, reweighting, splitting, scaling, in one scan: python -m pfnano_tag.prepare
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"
exec python -m pfnano_tag.prepare "$@"
