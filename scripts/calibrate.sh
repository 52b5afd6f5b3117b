#!/usr/bin/env bash
# Measures scale factors and shape weights from control regions: python -m pfnano_tag.calibrate
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"
exec python -m pfnano_tag.calibrate "$@"
