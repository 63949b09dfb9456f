#!/bin/sh
# Installs the Python peers of the benchmarks into a virtual environment beside this script. llama.cpp is built from source, which
# takes some ten minutes and a C++ compiler; without one the other peers are still there.
set -eu
cd "$(dirname "$0")"
python3 -m venv .venv
.venv/bin/pip install --quiet --upgrade pip
.venv/bin/pip install --quiet torch==2.9.1 numpy transformers==5.23.0 trl==1.16.0 datasets
.venv/bin/python -c 'import torch, transformers, trl; print("torch", torch.__version__, "transformers", transformers.__version__, "trl", trl.__version__)'
.venv/bin/pip install --quiet llama-cpp-python==0.3.36 || echo "install.sh: llama.cpp could not be built; its cases will measure our side alone" >&2
