#!/bin/sh
# Installs the Python peers of the kernel benchmark into a virtual environment beside this script.
set -eu
cd "$(dirname "$0")"
python3 -m venv .venv
.venv/bin/pip install --quiet --upgrade pip
.venv/bin/pip install --quiet torch==2.9.1 numpy
.venv/bin/python -c 'import torch; print("torch", torch.__version__)'
