#!/usr/bin/env bash
# Unpacks an archive of bundle.sh where there is no Open MPI, no HDF5 and hardly anything else, trains there with two ranks, chats.
# usage: bundle_test.sh FOLDER_OF_PROGRAMS
set -euo pipefail

programs=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# Whoever is not root becomes it in a namespace of the test's own: chroot is root's.
if [ "$(id -u)" -ne 0 ]; then
    exec unshare --user --map-root-user --mount "$0" "$@"
fi

folder=$(mktemp -d)
trap 'umount "$folder"/bare/dev/* 2>/dev/null || true; rm -rf "$folder"' EXIT
bare=$folder/bare

# What there is in the bare machine: a shell, a few tools, and the C library's files that these need.
make_bare_machine() {
    local tool file
    mkdir -p "$bare"/{bin,tmp,dev/shm,opt/some/where}
    for tool in bash env dirname readlink mkdir cat ls tar gzip grep find uname; do
        cp -L "$(command -v "$tool")" "$bare/bin/"
    done
    # The programs of the archive are given no other library: what the tools need, and what belongs to the C library.
    { ldd "$bare"/bin/* | grep -oE '/[^ ]+\.so[^ ]*' | sort -u
      ls /lib/x86_64-linux-gnu/lib{m,dl,rt,pthread,resolv,util,mvec}.so.[0-9]; } | while read -r file; do
        mkdir -p "$bare$(dirname "$file")"
        cp -Ln "$file" "$bare$file"
    done
    [ -e "$bare/usr" ] || ln -s . "$bare/usr"
    ln -s bash "$bare/bin/sh"
    for file in null:3 zero:5 random:8 urandom:9; do
        make_device "${file%:*}" "${file#*:}"
    done
}

# A device of its own where that is allowed, else this machine's.
make_device() {
    mknod -m 666 "$bare/dev/$1" c 1 "$2" 2>/dev/null || {
        touch "$bare/dev/$1"
        mount --bind "/dev/$1" "$bare/dev/$1"
    }
}

fail() {
    printf 'bundle_test: %s\n' "$*" >&2
    exit 1
}

in_bare() { chroot "$bare" /bin/env -i PATH=/bin HOME=/tmp OMP_NUM_THREADS=1 "$@"; }

"$root/launch/bundle.sh" --programs "$programs" --output "$folder/duologue.tar.gz"
make_bare_machine
foreign=$(find "$bare" | grep -E 'mpi|hdf5|libstdc|gomp|dnnl|icu' || true)
[ -z "$foreign" ] || fail "the bare machine is not bare: $foreign"
mv "$folder/duologue.tar.gz" "$bare/opt/some/where/"
in_bare tar -xzf /opt/some/where/duologue.tar.gz -C /opt/some/where

cat >"$bare/session.sh" <<'SESSION'
set -eu
cd /tmp
run=/opt/some/where/duologue/run
$run duologue-preprocess demo --output corpus.jsonl --conversations 300 --seed 1
$run duologue-preprocess corpus.jsonl --output shards
$run mpirun -n 2 duologue train --config /opt/some/where/duologue/configs/demo.json --data.path=shards \
    --output.path=out --data.micro_batch_tokens=512 --train.steps=8 --train.log_interval_steps=1 --device.kind=cpu \
    --device.threads=1 --chat.at_end=never
$run duologue train --config /opt/some/where/duologue/configs/demo.json --data.path=shards --output.path=out \
    --data.micro_batch_tokens=512 --train.steps=10 --device.kind=cpu --device.threads=1 --chat.at_end=never
$run duologue chat out/model --temperature 0 --prompt "hello" --device.kind=cpu >reply
SESSION
in_bare bash /session.sh

# Eight steps of two ranks and two more of a process without mpirun that went on from them; a model; a reply.
[ "$(grep -c '"event":"step"' "$bare/tmp/out/metrics.jsonl")" -eq 10 ] || fail "not 10 steps were trained"
grep -q . "$bare/tmp/reply" || fail "the chat said nothing"
echo "the chat replied: $(cat "$bare/tmp/reply")"
if [ ! -f "$bare/tmp/out/model/model.safetensors" ]; then fail "no model was written"; fi
