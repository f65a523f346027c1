#!/usr/bin/env bash
# Installs the Debian packages that building, testing and running duologue needs; installs only what is missing.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: launch/install_deps.sh [--tests] [--tools] [--check]
  --tests   also what the tests on several hosts, under Slurm and for SageMaker need; no service is left running
  --tools   also what the checks of .ci/run need: clang-format, clang-tidy, ccache
  --check   only list what is missing; exit status 1 when something is
TEXT
}

packages=(
    g++ cmake ninja-build pkg-config            # compiler and build
    libopenmpi-dev openmpi-bin openssh-client   # ranks; mpirun looks for ssh even on one machine
    libdnnl-dev                                 # matrix products on the CPU
    libhdf5-dev                                 # shards and checkpoints
    libfmt-dev libcli11-dev nlohmann-json3-dev  # text, command line, JSON
    libicu-dev libedit-dev                      # Unicode, line editing in the chat
    zlib1g-dev libzstd-dev                      # compressed input
    libgtest-dev libgmock-dev libbenchmark-dev  # tests, benchmarks
    python3 procps                              # launch/gpu_check.sh, tests of it
    python3-h5py time                           # tests: a reader of HDF5 that is not ours, peak memory
)
tests=(
    iproute2 procps util-linux openssh-server munge slurm-wlm # hosts as namespaces, a Slurm of the test's own
    python3-venv python3-dev                                  # SageMaker's toolkit, which has a part in C
)
tools=(clang-format clang-tidy libomp-dev ccache git) # libomp-dev: the omp.h that clang-tidy reads

check_only=no
for argument in "$@"; do
    case $argument in
        --tests) packages+=("${tests[@]}") ;;
        --tools) packages+=("${tools[@]}") ;;
        --check) check_only=yes ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "install_deps.sh: this machine has no apt-get. On Debian 12 the packages are:" >&2
    printf '  %s\n' "${packages[*]}" >&2
    echo "Install what your system calls them, then run cmake --preset cpu && cmake --build --preset cpu." >&2
    exit 1
fi

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done

if [ ${#missing[@]} -eq 0 ]; then
    echo "install_deps.sh: everything is installed (${#packages[@]} packages)."
    exit 0
fi
echo "install_deps.sh: missing: ${missing[*]}"
[ "$check_only" = no ] || exit 1

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "install_deps.sh: not root and no sudo. As root, run: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
echo "install_deps.sh: installing them with apt-get."
options=(-y -qq -o DPkg::Lock::Timeout=300)
"${as_root[@]}" apt-get "${options[@]}" update
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install --no-install-recommends "${missing[@]}"
# The tests start daemons of their own; those that came with the packages are not wanted.
if [ -d /run/systemd/system ]; then
    for service in openssh-server:ssh munge:munge slurm-wlm:slurmctld slurm-wlm:slurmd; do
        case " ${missing[*]} " in
            *" ${service%%:*} "*) "${as_root[@]}" systemctl disable --now "${service##*:}" ;;
        esac
    done
fi
echo "install_deps.sh: done."
