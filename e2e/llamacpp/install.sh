#!/bin/sh
# Installs llama.cpp's OpenAI-compatible server (llama-cpp-python, from source: a C++ compiler and CMake are needed) into a
# virtual environment, for the test that uses a real server.
#
#   e2e/llamacpp/install.sh [DIRECTORY]     default: e2e/llamacpp/venv, which git ignores
#
# Prints the command that runs the test.
set -eu

version=0.3.36
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-$here/venv}
python=${PYTHON:-python3}

if ! "$venv/bin/python" -c "import llama_cpp, sys; sys.exit(llama_cpp.__version__ != '$version')" 2>/dev/null; then
	"$python" -m venv "$venv"
	CMAKE_ARGS="-DLLAMA_CURL=OFF -DGGML_OPENMP=OFF ${CMAKE_ARGS:-}" "$venv/bin/pip" install --quiet "llama-cpp-python[server]==$version" >&2
fi
echo "MILLRACE_LLAMACPP=$venv/bin/python MILLRACE_SMOLLM2=\$(e2e/smollm2/fetch.sh) go test ./e2e -run TestLlamaCppServer -v"
