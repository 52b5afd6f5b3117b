#!/usr/bin/env bash
# Trains the networks of a card: python -m pfnano_tag.train
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"
exec python -m pfnano_tag.train "$@"
