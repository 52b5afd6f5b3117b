#!/usr/bin/env bash
# Makes PFNano files: python -m pfnano_tag.generate
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"
exec python -m pfnano_tag.generate "$@"
