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
refuses "there is no --hosts FILE" "$cluster" --config x
refuses "'$folder/hosts' cannot be executed" "$cluster" --hosts hosts --program hosts --config x
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
refuses "which is not a number" "$local" --config x --program=program --ranks=0
refuses "'$folder/nothing' is not there" "$local" --program nothing --config x
refuses "this is not a job of Slurm" env -u SLURM_JOB_ID bash "$repository/launch/slurm.sbatch" --program program --config x
refuses "no --config FILE" env SLURM_JOB_ID=1 bash "$repository/launch/slurm.sbatch" --program program
refuses "'$folder/nothing' is not there" env SLURM_JOB_ID=1 bash "$repository/launch/slurm.sbatch" --program nothing --config x

launch=$repository/launch
refuses "demo.sh: --output needs a folder" "$launch/demo.sh" --output
refuses "demo.sh: the demo sets --output.path itself" "$launch/demo.sh" --output.path=x
refuses "bundle.sh: --output is 'x.zip'" "$launch/bundle.sh" --output x.zip
refuses "demo.sh: 'here' is none of these" "$launch/demo.sh" here
refuses "bundle.sh: --programs needs a folder" "$launch/bundle.sh" --programs
refuses "build.sh: there is no preset 'gpu'; there are: cpu cuda ci cpu-asan" "$launch/build.sh" gpu
refuses "build.sh: '--preset' is no option" "$launch/build.sh" --preset ci
refuses "test.sh: --preset needs a name" "$launch/test.sh" --preset
refuses "test.sh: there is no preset 'gpu'" "$launch/test.sh" --preset gpu
refuses "usage: launch/ranks.sh MPIRUN_ARGUMENT" "$launch/ranks.sh"
for script in demo bundle build test ranks cluster local install_deps; do
    output=$("$launch/$script.sh" --help 2>errors) || fail "$script.sh --help: exit status $?"
    grep -q "^usage: launch/$script.sh" <<<"$output" || fail "$script.sh --help does not say how it is used: $output"
    [ ! -s errors ] || fail "$script.sh --help writes to standard error: $(cat errors)"
done

# Relative paths are the caller's, and arguments with spaces arrive as they are.
output=$("$local" --ranks 1 --program program --config "a file" --train.steps=1 2>&1)
grep -qx "program train --config a file --train.steps=1" <<<"$output" || fail "local.sh did not start the program: $output"
output=$("$cluster" --hosts hosts --program program --config x 2>&1)
grep -q "1 rank on 1 host (localhost:1)" <<<"$output" || fail "cluster.sh does not say what it starts: $output"
grep -qx "program train --config x" <<<"$output" || fail "cluster.sh did not start the program: $output"

# A rank per GPU, if the program has the CUDA back end: a module that is beside it or in ../lib.
mkdir gpus bin lib
printf '#!/bin/sh\nprintf "GPU %%d: test\\n" 0 1 2 3 4\n' >gpus/nvidia-smi
printf '#!/bin/sh\nexit 0\n' >gpus/mpirun
chmod +x gpus/*
cp program bin/
says_ranks() {
    local output
    output=$(env PATH="$folder/gpus:$PATH" "$local" --program "$2" --config x 2>&1)
    grep -q "== $1 ranks on this machine" <<<"$output" || fail "local.sh does not start $1 ranks of $2: $output"
}
without_gpus=$((($(nproc) + 7) / 8))
[ "$without_gpus" -ge 2 ] || without_gpus=$(($(nproc) < 2 ? $(nproc) : 2))
says_ranks "$without_gpus" bin/program
touch lib/libduologue_cuda.so
says_ranks 5 bin/program
mv lib/libduologue_cuda.so bin/
says_ranks 5 bin/program
ln -s bin/program linked # as /usr/local/bin may have it
says_ranks 5 linked

# With --nodes alone Slurm sets no SLURM_NTASKS, and starts a rank on each.
mkdir fake
printf '#!/bin/sh\nshift 2\nexec "$@"\n' >fake/srun
printf '#!/bin/sh\nexit 0\n' >fake/scontrol
chmod +x fake/*
status=0
output=$(env -u SLURM_NTASKS PATH="$folder/fake:$PATH" SLURM_JOB_ID=1 SLURM_JOB_NODELIST=here SLURM_JOB_NUM_NODES=3 \
    SLURM_PROCID=0 bash "$repository/launch/slurm.sbatch" --program program --config x 2>&1) || status=$?
[ "$status" -eq 0 ] || fail "slurm.sbatch ended with $status where only --nodes was given: $output"
grep -q ": 3 ranks of $folder/program train" <<<"$output" || fail "slurm.sbatch does not say how many ranks: $output"

# An srun that starts nothing and ends with 0, as Slurm's does when a launch fails, is no success.
printf '#!/bin/sh\nexit 0\n' >fake/srun
status=0
output=$(env PATH="$folder/fake:$PATH" SLURM_JOB_ID=1 SLURM_JOB_NODELIST=here SLURM_NTASKS=1 \
    bash "$repository/launch/slurm.sbatch" --program program --config x 2>&1) || status=$?
[ "$status" -eq 6 ] || fail "slurm.sbatch ended with $status where srun had started nothing: $output"
grep -q "srun could not start the ranks" <<<"$output" || fail "slurm.sbatch does not say that nothing started: $output"
