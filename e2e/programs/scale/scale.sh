#!/bin/bash
# scale.sh [ROUNDS]: what the dataflow costs. Every round measures, one after the other, calls of the stages without Beam, the
# embedded runner, Flink with 1, 2 and 4 slots where $FLINK_DIR (default .flink) holds a cluster of e2e/flink/build.sh, and the peer
# where e2e/programs/scale/install.sh was run; all lines of JSON go to standard output. report.py makes tables of them:
#   e2e/programs/scale/scale.sh 3 > scale.jsonl && python3 e2e/programs/scale/report.py scale.jsonl
# MODEL: a model of the proving ground for the stages that need one, as `millrace run warm-start` leaves it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../../.."
rounds=${1:-3}
export FLINK_DIR=${FLINK_DIR:-$PWD/.flink}
work=$(mktemp -d)
started=
trap '[ -z "$started" ] || e2e/flink/cluster.sh stop >&2; rm -rf "$work"' EXIT
jobs=${MILLRACE_JOBS:-$work/jobs}
[ -x "$jobs" ] || go build -o "$jobs" ./e2e/programs/jobs
if [ -f "$FLINK_DIR/launcher.jar" ] && ! curl -sf localhost:8081/overview > /dev/null; then
  e2e/flink/cluster.sh start 2 >&2
  started=yes
fi

run() { # name, arguments of jobs...
  local name=$1
  shift
  "$jobs" "$@" --dir "$work/run" 2>> "$work/log" | sed "s/^{/{\"job\":\"$name\",/" || { tail -5 "$work/log" >&2; echo "scale.sh: $name failed" >&2; }
  rm -rf "$work/run"
}

everywhere() { # name, arguments of jobs...
  local name=$1
  shift
  run "$name" "$@" --runner none
  run "$name" "$@" --runner prism
  if curl -sf localhost:8081/overview > /dev/null; then
    for slots in 1 2 4; do run "$name" "$@" --runner flink --slots $slots; done
  fi
}

for _ in $(seq "$rounds"); do
  everywhere volume volume --records "${RECORDS:-60}"
  everywhere job outcome --records 1 --groups 1 --responses 2 --tokens 16 --slices 4
  [ -z "${MODEL:-}" ] || everywhere policy policy --model "$MODEL" --records 16 --groups 8
  run outcome outcome --records 120 --candidates 1 --runner none
  run outcome outcome --records 120 --candidates 1 --runner prism
  if [ -x e2e/programs/scale/.venv/bin/python ]; then
    for verifier in boxed math-verify; do
      e2e/programs/scale/.venv/bin/python e2e/programs/scale/peer_beam.py $verifier 120 4 8 512 2>> "$work/log" | grep '^{' | sed 's/^{/{"job":"outcome",/'
    done
  fi
done
