#!/usr/bin/env bash
# Deletes a stack and says what it leaves, as `decoupled destroy` does.
#
#   scripts/destroy.sh STACK [--yes]
set -euo pipefail
cd "$(dirname "$0")/.."
make --silent .venv/run.stamp
exec .venv/bin/decoupled destroy "$@"
