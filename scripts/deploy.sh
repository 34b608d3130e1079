#!/usr/bin/env bash
# Builds, uploads and deploys the system as a stack and prints its outputs, as `decoupled deploy` does.
#
#   scripts/deploy.sh STACK [Parameter=Value ...]
#   scripts/deploy.sh shop Workloads=orders,notifications AlarmEmail=oncall@example.com
set -euo pipefail
cd "$(dirname "$0")/.."
make --silent .venv/run.stamp
exec .venv/bin/decoupled deploy "$@"
