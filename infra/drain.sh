#!/usr/bin/env bash
# Runs in a worker before Kubernetes ends its pod (preStop). It tells Ray that the node goes: Ray then starts nothing new here, and
# what dies with the node counts as preempted. It waits for the chunks in flight, but not longer than the argument says.
set -euo pipefail
seconds=${1:?usage: drain.sh SECONDS}
proc=${2:-/proc}

deadline=$((SECONDS + seconds))
node=$(cat "$proc"/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n' | sed -n 's/^--node_id=//p' | head -n 1 || true)
[ -n "$node" ] || { echo "no raylet runs here; nothing to drain" >&2; exit 0; }

# At the end of a run the head is gone before its workers. Then there is nobody to tell, and nothing to wait for.
timeout 20 ray drain-node --node-id "$node" --reason DRAIN_NODE_REASON_PREEMPTION \
  --reason-message "the pod is being ended" --deadline-remaining-seconds "$seconds" || exit 0

# Ray's workers are called by their task or actor.
while [ $SECONDS -lt $deadline ] &&
  cat "$proc"/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n' | grep '^ray::' | grep -qvE '^ray::(IDLE|RuntimeEnvAgent|DashboardAgent)'; do
  sleep 1
done
