#!/usr/bin/env bash
# Packs the zip that all three Lambda functions run, as `decoupled build` does.
#
#   scripts/build.sh [--platform lambda|local] [--output build/lambda.zip]
set -euo pipefail
cd "$(dirname "$0")/.."
make --silent .venv/run.stamp
exec .venv/bin/decoupled build "$@"
