# What the launch scripts share: where things are, how many cores there are, and what mpirun needs on this machine.
# Sourced, not run. Sets `root` and moves there.

set -euo pipefail
started_in=$PWD # where the caller's relative paths begin
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

say() { printf '\n== %s\n' "$*"; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# $1 as the caller means it.
absolute() { (cd "$started_in" && realpath -m "$1"); }

# Cores this process may use: a container's or a batch system's share, not the machine's.
cores() { nproc; }

# GPUs of this machine.
gpus() {
    command -v nvidia-smi >/dev/null || { echo 0 && return; }
    nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU' || true
}

# Whether the program $1 has the CUDA back end: a module beside it or in ../lib, where the program itself looks for it.
has_cuda() {
    local folder
    folder=$(dirname "$(realpath "$1")")
    [ -e "$folder/libduologue_cuda.so" ] || [ -e "$folder/../lib/libduologue_cuda.so" ]
}

# One rank per GPU where the program $1 has the CUDA back end; without GPUs a rank for every 8 cores, but at least $2 where
# there are as many cores.
ranks_of_this_machine() {
    local ranks=0
    ! has_cuda "$1" || ranks=$(gpus)
    [ "$ranks" -eq 0 ] || { echo "$ranks" && return; }
    ranks=$((($(cores) + 7) / 8))
    [ "$ranks" -ge "$2" ] || ranks=$(($(cores) < $2 ? $(cores) : $2))
    echo "$ranks"
}

# "1 rank", "2 ranks".
counted() { echo "$1 $2$([ "$1" -eq 1 ] || echo s)"; }

# Ends with 2, a mistake in how the script was called.
wrong() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 2
}

# Ends with 2 where the trainer $1 cannot be run.
require_program() {
    [ -e "$1" ] || wrong "'$1' is not there; build it (launch/build.sh), or name it with --program"
    [ -x "$1" ] || wrong "'$1' cannot be executed; --program names the trainer"
}

# The names of CMake's presets.
presets() { cmake --list-presets 2>/dev/null | awk -F'"' 'NF > 2 { print $2 }'; }

# Ends with 2 where CMake knows no preset $1; without CMake, which install_deps.sh brings, nobody can tell yet.
require_preset() {
    ! command -v cmake >/dev/null || grep -qx -- "$1" <<<"$(presets)" ||
        wrong "there is no preset '$1'; there are: $(presets | paste -sd ' ')"
}

# Where CMake's preset $1 builds.
build_folder() {
    case $1 in
        cpu) echo build ;;
        *) echo "build-$1" ;;
    esac
}

# Open MPI refuses to run as root unless told twice, and more ranks than cores unless told so. Its single-copy transfers
# between processes need a permission that containers withhold; the plain copy works everywhere.
prepare_mpi() {
    if [ "$(id -u)" -eq 0 ]; then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
    export OMPI_MCA_rmaps_base_oversubscribe=1
    export OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none}
}
