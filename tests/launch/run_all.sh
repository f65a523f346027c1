#!/usr/bin/env bash
# Runs every test on several hosts and under Slurm, the long ones too, and records the result in tests/launch/RESULTS.md.
# usage: tests/launch/run_all.sh [--preset NAME] [ctest arguments]
. "$(dirname "$0")/../../launch/common.sh"

commit=$(git describe --always --dirty)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
preset=cpu
[ "${1:-}" != --preset ] || { preset=$2 && shift 2; }
launch/install_deps.sh --tests
launch/build.sh "$preset" duologue duologue-preprocess
export DUOLOGUE_FAULT_SECONDS=60 # distributed.timeout_seconds of jobs that are broken: the default
status=0
ctest --preset "$preset" -C long -L 'netns|slurm' --verbose "$@" 2>&1 | tee "$log" || status=$?

version() { dpkg-query -W -f='${Version}' "$1"; }
{
    echo "# The last run of the tests on several hosts and under Slurm"
    echo
    echo "$(date --utc '+%F %H:%M UTC'), commit $commit, by \`tests/launch/run_all.sh\`, on one"
    echo "machine with $(nproc) cores (load $(cut -d' ' -f2 /proc/loadavg)): hosts are namespaces of network, mounts, processes and names, joined by a bridge. Linux"
    echo "$(uname -r), Open MPI $(version openmpi-bin), OpenSSH $(version openssh-server), Slurm $(version slurm-wlm)."
    echo
    echo "| test | result | seconds |"
    echo "|---|---|---|"
    sed -n 's/^ *[0-9]*\/[0-9]* Test *#[0-9]*: \([^ ]*\) \.* *\**\(Passed\|Failed\|Timeout\|Not Run\)[^0-9]*\([0-9.]*\) sec.*/| `\1` | \2 | \3 |/p' "$log"
    echo
    echo "The time from the fault to the end of \`cluster.sh\`, and of the last process on any host, with \`distributed.timeout_seconds\`,"
    echo "and how many lines the ranks wrote about it:"
    echo
    sed -n 's/^[0-9]*: \([a-z_]*\): timeout \([0-9]*\) s: ended with \([0-9]*\) after \(.*\)$/- \1, timeout \2 s: exit status \3 after \4/p' "$log"
} >tests/launch/RESULTS.md
echo "recorded in tests/launch/RESULTS.md"
exit "$status"
