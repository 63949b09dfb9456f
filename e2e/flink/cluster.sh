#!/bin/bash
# cluster.sh start [TASKMANAGERS] | stop | status | addtm | killtm [PID] | jobservice | killjobservice
# start: a JobManager, TaskManagers of two slots (default 2) and the job service, from the folder of build.sh in $FLINK_DIR
# (default .flink); stop: all of them. killtm: kill -9 of a TaskManager, without PID the one started first; killjobservice likewise.
# WAIT: seconds to wait for each part to come up (default 180).
set -uo pipefail
dir=${FLINK_DIR:-$PWD/.flink}
export FLINK_HOME=$dir/home FLINK_CONF_DIR=$dir/home/conf FLINK_LOG_DIR=$dir/home/log FLINK_PID_DIR=$dir/home/pid
# What a process that is killed leaves behind goes with the cluster.
export JVM_ARGS="${JVM_ARGS:-} -Djava.io.tmpdir=$dir/tmp"

wait_for() { # seconds, what, command...
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { echo "cluster.sh: $what does not come up; see $dir/logs and $FLINK_LOG_DIR" >&2; exit 1; }
    sleep 0.5
  done
}

slots() { [ "$(curl -s localhost:8081/overview | sed -n 's/.*"slots-total":\([0-9]*\).*/\1/p')" -ge "$1" ]; }

job_service() {
  local opens=()
  for p in lang util nio net time io lang.reflect util.concurrent; do opens+=("--add-opens=java.base/java.$p=ALL-UNNAMED"); done
  setsid java -Djava.io.tmpdir="$dir/tmp" -Xmx"${JOB_SERVICE_HEAP:-512m}" -XX:TieredStopAtLevel=1 -XX:+UseSerialGC "${opens[@]}" --add-opens=java.base/sun.nio.ch=ALL-UNNAMED -Djava.system.class.loader=HiddenJar -Dhidden.jar="$dir/job-service.jar" -cp "$dir/launcher.jar" \
    org.apache.beam.runners.flink.FlinkJobServerDriver \
    --flink-master=localhost:8081 --job-port=8099 --artifact-port=8098 --expansion-port=-1 \
    --artifacts-dir="$dir/artifacts" > "$dir/logs/job-service.log" 2>&1 < /dev/null &
  echo $! > "$dir/job-service.pid"
}

case ${1:-} in
start)
  mkdir -p "$dir/logs" "$dir/tmp"
  "$FLINK_HOME/bin/jobmanager.sh" start
  for _ in $(seq "${2:-2}"); do "$FLINK_HOME/bin/taskmanager.sh" start; done
  job_service
  wait_for "${WAIT:-180}" "the cluster" slots $((2 * ${2:-2}))
  wait_for "${WAIT:-180}" "the job service" grep -q "JobService started" "$dir/logs/job-service.log"
  ;;
jobservice) job_service; wait_for "${WAIT:-180}" "the job service" grep -q "JobService started" "$dir/logs/job-service.log" ;;
killjobservice) kill -9 "$(cat "$dir/job-service.pid")" ;;
killtm)
  pids=$(ls "$FLINK_PID_DIR"/*taskexecutor.pid)
  pid=${2:-$(head -1 $pids)}
  kill -9 "$pid" && sed -i "/^$pid\$/d" $pids
  ;;
addtm) "$FLINK_HOME/bin/taskmanager.sh" start ;;
stop)
  [ -f "$dir/job-service.pid" ] && kill "$(cat "$dir/job-service.pid")" 2>/dev/null
  rm -f "$dir/job-service.pid"
  "$FLINK_HOME/bin/taskmanager.sh" stop-all
  "$FLINK_HOME/bin/jobmanager.sh" stop-all
  for _ in $(seq 40); do pgrep -f -- "-Djava.io.tmpdir=$dir/tmp" > /dev/null || break; sleep 0.5; done
  rm -rf "$dir/tmp"
  ;;
status) curl -s localhost:8081/overview && echo ;;
*) sed -n 2,5p "$0"; exit 2 ;;
esac
