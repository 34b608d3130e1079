#!/usr/bin/env bash
# Packs the zip that all three Lambda functions run: functions/, workloads/, what of decoupled/ they import, and the
# locked dependencies for Lambda's Python and processor. The same sources give the same bytes.
#
#   scripts/build.sh [--platform lambda|local] [--output build/lambda.zip]
#
# --platform local takes the dependencies for this machine's Python instead, for an emulator that runs functions on it.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON_VERSION=3.14 # as Runtime in templates/decoupled-architecture.yaml; a test compares them
platform=lambda
output=build/lambda.zip
while [ $# -gt 0 ]; do
  case $1 in
    --platform) platform=$2; shift 2 ;;
    --output) output=$2; shift 2 ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done
case $platform in
  # Lambda's Amazon Linux 2023 has glibc 2.34; wheels for an older one run there too.
  lambda) for_platform=(--platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64
    --platform manylinux2014_aarch64 --implementation cp --python-version "$PYTHON_VERSION") ;;
  local) for_platform=() ;;
  *) echo "build.sh: --platform is lambda or local, not $platform" >&2; exit 2 ;;
esac

make --silent .venv/bin/python
mkdir -p "$(dirname "$output")"
staging=$(mktemp -d)
trap 'rm -rf "$staging" "$staging.log"' EXIT

.venv/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps --only-binary :all: \
  --no-compile --target "$staging" "${for_platform[@]}" --requirement requirements/lambda.lock 2> "$staging.log" ||
  { cat "$staging.log" >&2; exit 1; }
rm -rf "${staging:?}/bin"
cp -R functions workloads "$staging/"

# Names in order, one date, one mode, no byte code: nothing of this machine gets in.
.venv/bin/python - "$staging" "$output" << 'PACK'
import ast, pathlib, sys, zipfile

staging, output = map(pathlib.Path, sys.argv[1:])


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


# Of decoupled/, what functions and workloads import, directly or not: no command line, no engine for one machine.
waiting = [*staging.glob("functions/*.py"), *staging.glob("workloads/*.py")]
while waiting:
    for name in imported(waiting.pop()):
        parts = name.split(".")
        for module in (pathlib.Path(*parts).with_suffix(".py"), pathlib.Path(*parts, "__init__.py")):
            if parts[0] == "decoupled" and module.exists() and not (staging / module).exists():
                (staging / module).parent.mkdir(parents=True, exist_ok=True)
                (staging / module).write_bytes(module.read_bytes())
                waiting.append(staging / module)

files = sorted(path for path in staging.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
    for path in files:
        entry = zipfile.ZipInfo(path.relative_to(staging).as_posix(), (1980, 1, 1, 0, 0, 0))
        entry.external_attr = 0o644 << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, path.read_bytes())
print(f"{output}: {len(files)} files, {output.stat().st_size:,} bytes")
PACK
