#!/bin/sh
# Installs the peer of the scale benchmark, Apache Beam for Python, into a virtual environment beside this script.
set -eu
cd "$(dirname "$0")"
python3 -m venv .venv
.venv/bin/pip install --quiet apache-beam==2.71.0 math-verify==0.8.0 antlr4-python3-runtime==4.13.2
.venv/bin/python -c 'import apache_beam; print("apache-beam", apache_beam.__version__)'
