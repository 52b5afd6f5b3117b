#!/usr/bin/env bash
# Says what files are: python -m pfnano_tag.inspect
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"
exec python -m pfnano_tag.inspect "$@"
