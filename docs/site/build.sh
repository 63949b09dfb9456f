#!/usr/bin/env bash
# build.sh [DIR]: the documentation as a site of plain files, in DIR (default: .site/html). Python is all that is needed. A fault of a page,
# such as a link that leads nowhere, fails the build.
#   python3 -m http.server -d .site/html      shows it
set -euo pipefail
here=$(dirname "$(realpath "$0")")
out=$(realpath -m "${1:-$here/../../.site/html}")
mkdocs=$("$here/generator.sh")
# Without the generator's word on its successor, and without compiled files among the sources. Not --quiet: a warning that is not shown is
# none to --strict.
NO_MKDOCS_2_WARNING=1 PYTHONDONTWRITEBYTECODE=1 "$mkdocs" build --strict -f "$here/mkdocs.yml" -d "$out"
