#!/bin/sh
# Installs what trainer.py needs into a virtual environment, unless it is there, and prints the path of its Python.
# Usage: install.sh ENV
set -eu
env=$1
if [ ! -e "$env/ready" ]; then
  python3 -m venv "$env"
  "$env/bin/pip" install -q uv
  "$env/bin/uv" pip install -q --python "$env/bin/python" torch==2.13.0 safetensors==0.8.0 numpy==2.4.6 pyarrow==26.0.1
  "$env/bin/python" -c 'import torch, safetensors, pyarrow, numpy'
  touch "$env/ready"
fi
echo "$env/bin/python"
