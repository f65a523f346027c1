#!/usr/bin/env bash
# What has to hold of the image, checked while it is built: gates.sh [--efa] [--cuda]. Names everything that does not hold.
set -uo pipefail

failures=0
broken() {
    echo "gates.sh: $*" >&2
    failures=$((failures + 1))
}

# The toolkit's workers wait for a process named orted, which Open MPI 5 does not have.
check_mpi() {
    local version
    version=$(mpirun --version 2>/dev/null | head -n 1)
    [[ $version =~ \ 4\.1\. ]] || broken "mpirun must be Open MPI 4.1, but it is '${version:-absent}'"
    command -v orted >/dev/null || broken "there is no orted, which the toolkit's workers wait for"
}

# The toolkit preloads this library into every rank. It refers to names of Python's, so with immediate binding every rank
# would die at its start; without lazy binding's flag it works.
check_preload() {
    local library
    library=$(python3 -c 'import importlib.util; print(importlib.util.find_spec("gethostname").origin)' 2>/dev/null)
    [ -f "$library" ] || { broken "the toolkit's library gethostname is not installed" && return; }
    ! readelf -d "$library" | grep -qE 'BIND_NOW|FLAGS_1.*NOW' ||
        broken "$library is linked with immediate binding; build it with LDFLAGS=-Wl,-z,lazy"
}

check_programs() {
    local program missing
    for program in duologue duologue-preprocess; do
        command -v "$program" >/dev/null || { broken "there is no $program on PATH" && continue; }
        missing=$(ldd "$(command -v "$program")" | grep 'not found')
        [ -z "$missing" ] || broken "$program lacks libraries:" "$missing"
    done
    duologue --version >/dev/null || broken "duologue does not start"
    command -v train >/dev/null || broken "there is no train, which the toolkit installs and SageMaker starts"
    python3 -c 'import trainer_sm' || broken "the entry module trainer_sm cannot be imported"
}

check_ssh() {
    [ -x /usr/sbin/sshd ] || { broken "there is no /usr/sbin/sshd, which the toolkit starts by that name" && return; }
    /usr/sbin/sshd -t || broken "sshd does not accept its configuration"
    [ -d /run/sshd ] || broken "there is no /run/sshd"
    cmp -s /root/.ssh/id_rsa.pub /root/.ssh/authorized_keys || broken "root's key does not open root's account"
}

check_efa() {
    local library
    for library in libfabric.so.1 libnccl-net; do
        ldconfig -p | grep -q "$library" || broken "the loader does not find $library (EFA)"
    done
}

# The plugin opens libcudart by its name without a version. The trainer opens its CUDA back end when it has to use a GPU: a
# job would say only then that it, or a library of it, is missing.
check_cuda() {
    local library module missing
    module=$(dirname "$(realpath "$(command -v duologue)")")/../lib/libduologue_cuda.so
    if [ -e "$module" ]; then
        missing=$(ldd "$module" | awk '/not found/ {printf " %s", $1}')
        [ -z "$missing" ] || broken "$(basename "$module") lacks libraries:$missing"
    else
        broken "there is no $module, the trainer's CUDA back end"
    fi
    for library in libcudart.so libcublasLt.so. libcudnn.so. libnccl.so.; do
        ldconfig -p | grep -qF "$library" || broken "the loader does not find $library (CUDA)"
    done
    ldconfig -p | grep -qE 'libcudart\.so ' || broken "libcudart.so lacks its name without a version"
}

checks=(mpi preload programs ssh)
for argument in "$@"; do
    case $argument in
        --efa) checks+=(efa) ;;
        --cuda) checks+=(cuda) ;;
        *) echo "usage: gates.sh [--efa] [--cuda]" >&2 && exit 2 ;;
    esac
done
for check in "${checks[@]}"; do "check_$check"; done
[ "$failures" -eq 0 ] || exit 1
echo "gates.sh: the image is as it has to be (${checks[*]})"
