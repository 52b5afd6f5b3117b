#!/usr/bin/env bash
# Robustness against distorted inputs: python -m pfnano_tag.attack
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"
exec python -m pfnano_tag.attack "$@"
