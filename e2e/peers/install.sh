#!/bin/sh
# Installs the Python peers that the formats of export are held against into a virtual environment, unless it is there. The packages
# that train on GPUs (verl, OpenRLHF, LLaMA-Factory) come without the dependencies that only their training needs. Those of a folder are
# others, for an environment of their own.
# Usage: install.sh ENV [FOLDER]
set -eu
env=$1
here=$(cd "$(dirname "$0")/${2:-.}" && pwd)
if cmp -s "$here/requirements.txt" "$env/requirements.txt" && cmp -s "$here/bare.txt" "$env/bare.txt"; then
	exit
fi
[ -x "$env/bin/python" ] || "${PYTHON:-python3}" -m venv "$env"
"$env/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$env/bin/uv" pip install --quiet --python "$env/bin/python" -r "$here/requirements.txt"
"$env/bin/uv" pip install --quiet --python "$env/bin/python" --no-deps -r "$here/bare.txt"
# The last release of TRL with a PRMTrainer, beside the one that the other trainers are of.
[ -n "${2:-}" ] || "$env/bin/uv" pip install --quiet --python "$env/bin/python" --no-deps --target "$env/prm" trl==1.13.0
cp "$here/requirements.txt" "$here/bare.txt" "$env/"
