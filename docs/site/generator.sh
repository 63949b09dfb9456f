#!/usr/bin/env bash
# Installs the generator of the site as requirements.txt pins it, in .site/venv, and prints where it is.
set -euo pipefail
cd "$(dirname "$0")"

tools=$(realpath -m ../../.site/venv)
if ! cmp -s requirements.txt "$tools/requirements.txt"; then
  rm -rf "$tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
  cp requirements.txt "$tools/requirements.txt" # last: an installation that was interrupted is made anew
fi
printf '%s\n' "$tools/bin/mkdocs"
