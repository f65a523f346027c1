#!/usr/bin/env bash
# What the launch scripts say to mistakes in how they are called: each ends with 2 and says what is wrong.
. "$(dirname "$0")/support.sh"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
printf '#!/bin/sh\necho "program $*"\n' >program
chmod +x program
echo "localhost slots=1" >hosts

# refuses TEXT COMMAND...: exit status 2, and TEXT in what it says.
refuses() {
    local output status=0
    output=$("${@:2}" 2>&1) || status=$?
    [ "$status" -eq 2 ] || fail "${*:2}: exit status $status instead of 2: $output"
    grep -q -- "$1" <<<"$output" || fail "${*:2}: does not say '$1': $output"
}

cluster=$repository/launch/cluster.sh
local=$repository/launch/local.sh
refuses "usage: launch/cluster.sh" "$cluster"
refuses "usage: launch/cluster.sh" "$cluster" --config x
refuses "cannot read the host file '$folder/nowhere'" "$cluster" --hosts nowhere --program program --config x
refuses "'$folder/nothing' is not there" "$cluster" --hosts hosts --program nothing --config x
refuses "which is not a number" "$cluster" --hosts hosts --program program --ranks-per-host many --config x
echo "localhost cpus=2" >wrong
refuses "line 1: localhost cpus=2" "$cluster" --hosts wrong --program program --config x
echo "# nobody" >empty
refuses "names no host" "$cluster" --hosts empty --program program --config x
echo "elsewhere.invalid" >elsewhere
refuses "run it on elsewhere.invalid, the first host" "$cluster" --hosts elsewhere --program program --config x
refuses "usage: launch/local.sh" "$local"
refuses "which is not a number" "$local" --ranks none --program program --config x
refuses "'$folder/nothing' is not there" "$local" --program nothing --config x
refuses "no --config FILE" env SLURM_JOB_ID=1 bash "$repository/launch/slurm.sbatch" --program program
refuses "'$folder/nothing' is not there" env SLURM_JOB_ID=1 bash "$repository/launch/slurm.sbatch" --program nothing --config x

# Relative paths are the caller's, and arguments with spaces arrive as they are.
output=$("$local" --ranks 1 --program program --config "a file" --train.steps=1 2>&1)
grep -qx "program train --config a file --train.steps=1" <<<"$output" || fail "local.sh did not start the program: $output"
output=$("$cluster" --hosts hosts --program program --config x 2>&1)
grep -q "1 ranks on 1 hosts (localhost:1)" <<<"$output" || fail "cluster.sh does not say what it starts: $output"
grep -qx "program train --config x" <<<"$output" || fail "cluster.sh did not start the program: $output"

# An srun that starts nothing and ends with 0, as Slurm's does when a launch fails, is no success.
mkdir fake
printf '#!/bin/sh\nexit 0\n' >fake/srun
chmod +x fake/srun
status=0
output=$(env PATH="$folder/fake:$PATH" SLURM_JOB_ID=1 SLURM_JOB_NODELIST=here SLURM_NTASKS=1 \
    bash "$repository/launch/slurm.sbatch" --program program --config x 2>&1) || status=$?
[ "$status" -eq 6 ] || fail "slurm.sbatch ended with $status where srun had started nothing: $output"
grep -q "srun could not start the ranks" <<<"$output" || fail "slurm.sbatch does not say that nothing started: $output"
