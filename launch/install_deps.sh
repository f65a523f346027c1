#!/usr/bin/env bash
# Installs the Debian packages that building, testing and running duologue needs, and with --cuda cudnn-frontend's headers;
# installs only what is missing.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: launch/install_deps.sh [--tests] [--tools] [--cuda] [--check]
  --tests   also what the tests on several hosts, under Slurm and for SageMaker need; no service is left running
  --tools   also what the checks of .ci/run need: clang-format, clang-tidy, ccache
  --cuda    also, where there is a CUDA toolkit, the headers of cudnn-frontend, into .deps/ of this checkout; where there
            is none, says how to get it
  --check   only list what is missing; exit status 1 when something is
TEXT
}

packages=(
    g++ cmake ninja-build pkg-config            # compiler and build
    libopenmpi-dev openmpi-bin openssh-client   # ranks; mpirun looks for ssh even on one machine
    libdnnl-dev                                 # matrix products on the CPU
    libhdf5-dev                                 # shards and checkpoints
    libfmt-dev nlohmann-json3-dev               # text, JSON
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
cuda=(python3-pip ca-certificates)                    # fetch the headers of cudnn-frontend from PyPI
tools=(clang-format clang-tidy libomp-dev ccache git) # libomp-dev: the omp.h that clang-tidy reads

check_only=no
with_cuda=no
for argument in "$@"; do
    case $argument in
        --tests) packages+=("${tests[@]}") ;;
        --tools) packages+=("${tools[@]}") ;;
        --cuda) packages+=("${cuda[@]}") && with_cuda=yes ;;
        --check) check_only=yes ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
done

frontend_version=1.23.0
frontend_folder=$(cd "$(dirname "$0")/.." && pwd)/.deps/cudnn-frontend

# cudnn-frontend is a library of headers; its wheel carries them. The rest of the wheel is for Python, and is left out.
# pip installs into a folder of its own, which Debian's mark on the system's Python (PEP 668) does not forbid.
fetch_cudnn_frontend() {
    local wheel
    wheel=$(mktemp -d)
    python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --no-deps --only-binary=:all: \
        --target "$wheel" "nvidia-cudnn-frontend==$frontend_version"
    rm -rf "$frontend_folder"
    mkdir -p "$frontend_folder"
    cp -r "$wheel/include" "$frontend_folder/include"
    touch "$frontend_folder/$frontend_version"
    rm -rf "$wheel"
    echo "install_deps.sh: cudnn-frontend $frontend_version is now in $frontend_folder."
}

has_toolkit() { command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; }

# The toolkit comes from NVIDIA, in many ways: this only looks whether it is there. CMake looks more closely.
prepare_cuda() {
    [ "$with_cuda" = yes ] || return 0
    if ! has_toolkit; then
        cat <<'TEXT'
install_deps.sh: there is no CUDA toolkit (nvcc): the CUDA back end will not be built, only the CPU's. It needs CUDA 13
with cuBLAS and NVRTC, cuDNN 9 and NCCL 2 with their headers: NVIDIA's packages cuda-toolkit-13-0, cudnn9-cuda-13 and
libnccl-dev (docs.nvidia.com/cuda/cuda-installation-guide-linux), or a container image with them. Then run this again.
TEXT
    elif [ -e "$frontend_folder/$frontend_version" ]; then
        echo "install_deps.sh: there is a CUDA toolkit; cudnn-frontend $frontend_version is in $frontend_folder."
    elif [ "$check_only" = yes ]; then
        echo "install_deps.sh: missing: the headers of cudnn-frontend $frontend_version"
        exit 1
    elif ! python3 -m pip --version >/dev/null 2>&1; then
        echo "install_deps.sh: python3 -m pip does not run; put the headers of cudnn-frontend $frontend_version" >&2
        echo "into $frontend_folder/include yourself (github.com/NVIDIA/cudnn-frontend)." >&2
        exit 1
    else
        fetch_cudnn_frontend
    fi
}

install_missing() {
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "install_deps.sh: not root and no sudo. As root, run: apt-get install ${missing[*]}" >&2
            exit 1
        fi
        as_root=(sudo)
    fi
    echo "install_deps.sh: installing them with apt-get."
    local options=(-y -qq -o DPkg::Lock::Timeout=300)
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
    echo "install_deps.sh: the packages are installed."
}

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "install_deps.sh: this machine has no apt-get. On Debian 12 the packages are:" >&2
    printf '  %s\n' "${packages[*]}" >&2
    echo "Install what your system calls them, then run cmake --preset cpu && cmake --build --preset cpu." >&2
    prepare_cuda
    exit 1
fi

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done

if [ ${#missing[@]} -eq 0 ]; then
    echo "install_deps.sh: all packages are installed (${#packages[@]})."
else
    echo "install_deps.sh: missing: ${missing[*]}"
    [ "$check_only" = no ] || exit 1
    install_missing
fi
prepare_cuda
