#!/bin/bash
# A run on plain machines that can be reached by ssh, this one among them.
#
#     docs/cluster/ssh.sh "node1 node2 node3" run.yaml [flags of balmer run]
#
# All machines see the run folder, the clone and its environment under the same paths. Ctrl-C ends the cluster and
# leaves the run to be gone on with; nothing else that runs on the machines is touched.
set -euo pipefail

others=${1:?usage: ssh.sh "HOST HOST ..." run.yaml [flags of balmer run]}
run_file=${2:?usage: ssh.sh "HOST HOST ..." run.yaml [flags of balmer run]}
shift 2
environment=${BALMER_ENVIRONMENT:-$HOME/balmer/.venv}
source "$environment/bin/activate"

address=${BALMER_ADDRESS:-$(hostname --ip-address)}
address=${address%% *}
port=${BALMER_PORT:-6379}
files=/tmp/ray-$USER-$port
export RAY_USAGE_STATS_ENABLED=0

# Every node lives as long as the command that started it.
started=()
end() {
    kill "${started[@]}" 2> /dev/null || true
    wait || true
}
trap end EXIT

ray start --head --node-ip-address="$address" --port="$port" --dashboard-host=127.0.0.1 --temp-dir="$files" --block &
started+=($!)
for _ in $(seq 60); do
    ray status --address="$address:$port" > /dev/null 2>&1 && break
    sleep 2
done
for host in $others; do
    ssh -tt -o BatchMode=yes "$host" \
        "RAY_USAGE_STATS_ENABLED=0 '$environment/bin/ray' start --address='$address:$port' --temp-dir='$files' --block" \
        < /dev/null > "ray-$host.log" 2>&1 &
    started+=($!)
done

balmer run "$run_file" --engine ray --address "$address:$port" "$@"
