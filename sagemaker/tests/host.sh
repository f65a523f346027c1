#!/usr/bin/env bash
# Becomes one host of a training job, then runs the image's first process: host.sh NAME FOLDER IMAGE NETWORK PROGRAM ...
# Runs in new namespaces of mounts, processes, network and name. FOLDER/ml becomes /opt/ml, with model, checkpoints and
# channels as mounts of their own, as SageMaker has them; what else the host writes is gone when it ends.
set -euo pipefail

name=$1 folder=$2 image=$3 network=$4
shift 4

mount --make-rprivate /
hostname "$name"
mount -t tmpfs none /dev/shm
mkdir -p "$folder/layer"
mount -t tmpfs none "$folder/layer"
overlay() {
    mkdir -p "$folder/layer/$1" "$folder/layer/$1.work"
    mount -t overlay none -o "lowerdir=${2:+$2:}/$1,upperdir=$folder/layer/$1,workdir=$folder/layer/$1.work" "/$1"
}
for top in etc root opt run; do overlay "$top" "$image/$top"; done
mkdir -p /opt/ml
mount --bind "$folder/ml" /opt/ml
mount --bind "$folder/ml/model" /opt/ml/model
mount --bind "$folder/ml/checkpoints" /opt/ml/checkpoints
for channel in "$folder/ml/input/data"/*/; do
    channel=/opt/ml/input/data/$(basename "$channel")
    mount --bind "$channel" "$channel"
    mount -o remount,bind,ro "$channel"
done
cp "$folder/hosts" /etc/hosts
overlay tmp "" # last: the folder itself may be in there

ip link set lo up
for ((tries = 0; tries < 200; ++tries)); do
    [ -z "$(ip -4 -oneline address show dev "$network" 2>/dev/null)" ] || exec "$@"
    sleep 0.1
done
echo "host.sh: the network '$network' did not come up" >&2
exit 1
