#!/bin/bash
# test.sh [go test flags]: builds the programs, starts the cluster of build.sh, runs the tests on it, stops the cluster.
# The faults three times each: test.sh -run 'Killed|Interrupted|Disk|Stage|Endpoint' -count 3
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export FLINK_DIR=${FLINK_DIR:-$PWD/.flink}
[ -f "$FLINK_DIR/job-service.jar" ] || { echo "test.sh: no cluster in $FLINK_DIR; run e2e/flink/build.sh first" >&2; exit 2; }
if [ -z "${MILLRACE_BINARY:-}" ]; then
  export MILLRACE_BINARY=$FLINK_DIR/millrace
  (cd "$here/../.." && go build -tags cloud -o "$MILLRACE_BINARY" .) || exit 1
fi
if [ -z "${MILLRACE_JOBS:-}" ]; then
  export MILLRACE_JOBS=$FLINK_DIR/jobs
  (cd "$here/../.." && go build -o "$MILLRACE_JOBS" ./e2e/programs/jobs) || exit 1
fi
trap '"$here/cluster.sh" stop' EXIT
# Where the tests of runs in buckets start a server, and where workers keep what they fetch from it.
export STORAGE_EMULATOR_HOST=localhost:8124 MILLRACE_CLUSTER_MODELS=$FLINK_DIR/tmp/models
MILLRACE_MODELS=$MILLRACE_CLUSTER_MODELS "$here/cluster.sh" start 2 || exit 1
(cd "$here/../.." && go test -tags flink -count 1 -timeout 120m -v "$@" ./e2e/flink)
