#!/bin/sh
# Fetches SmolLM2-135M-Instruct for the tests, to e2e/smollm2/model or the directory that is given, and prints the path of the file: what
# `millrace quickstart --real --fetch` does.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec sh "$here/../../pipelines/quickstart/fetch.sh" "${1:-$here/model}"
