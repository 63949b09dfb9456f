#!/bin/bash
# label.sh [ROWS [PEER_ROWS]]: judges ROWS given responses (default 1,000,000) by the math verifier, JSON lines to Parquet, and the first
# PEER_ROWS of them (default 20,000) by math-verify under Beam for Python, where e2e/programs/scale/install.sh was run. One line of JSON
# each: rows, seconds, CPU seconds, peak of resident memory, rows a CPU second.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
rows=${1:-1000000} peer=${2:-20000}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$here/../../.." && go build -o "$work/millrace" .)
python3 "$here/rows.py" "$rows" > "$work/rows.jsonl"

measured() { # program, rows, command...
  local program=$1 n=$2
  shift 2
  python3 - "$program" "$n" "$@" <<'PY'
import json, resource, subprocess, sys, time
program, n = sys.argv[1], int(sys.argv[2])
start = time.time()
subprocess.run(sys.argv[3:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
u = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds, cpu = time.time() - start, u.ru_utime + u.ru_stime
print(json.dumps({"program": program, "rows": n, "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1), "peak_mb": u.ru_maxrss // 1024,
                  "rows_per_second": round(n / seconds), "rows_per_cpu_second": round(n / cpu)}))
PY
}

measured "millrace label" "$rows" "$work/millrace" label "$work/rows.jsonl" --ungrouped --out "$work/labelled"
python=$here/../scale/.venv/bin/python
if [ -x "$python" ]; then
  head -n "$peer" "$work/rows.jsonl" > "$work/some.jsonl"
  measured "millrace label" "$peer" "$work/millrace" label "$work/some.jsonl" --ungrouped --out "$work/some"
  measured "beam python, math-verify" "$peer" "$python" "$here/peer.py" "$work/some.jsonl" "$work/peer"
fi
