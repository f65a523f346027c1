#!/usr/bin/env bash
# Tests of everything for SageMaker: run.sh [quick|all]. `quick` is CI's share; `all` also writes RESULTS.md.
# DUOLOGUE_BIN names the folder of the programs under test (default: build/bin).
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
cache=$root/.cache/sagemaker

fail() {
    echo "run.sh: $*" >&2
    exit 1
}

# environment NAME REQUIREMENTS: a virtual environment with just these packages; made again when they change. Prints its folder.
environment() {
    local folder=$cache/$1 stamp
    stamp=$(cat "$2" ../container/requirements.txt | sha256sum)
    if [ "$(cat "$folder/stamp" 2>/dev/null)" != "$stamp" ]; then
        python3 -c 'import ensurepip' 2>/dev/null || fail "python3 cannot make environments: apt-get install python3-venv"
        command -v gcc >/dev/null || fail "the toolkit has a part in C: apt-get install gcc python3-dev"
        echo "run.sh: installing $2 in $folder" >&2
        python3 -m venv --clear "$folder"
        "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$2" >&2
        echo "$stamp" >"$folder/stamp"
    fi
    echo "$folder"
}

lint() {
    local bin=$1 scripts
    mapfile -t scripts < <(grep -rlE '^#!.*bash' "$root/sagemaker")
    "$bin/shellcheck" "${scripts[@]}"
    "$bin/hadolint" ../Dockerfile
}

scope=${1:-quick}
case $scope in
    quick) selection=(-m "not long") ;;
    all) selection=() ;;
    *) fail "usage: run.sh [quick|all]" ;;
esac
toolkit=$(environment toolkit requirements.txt)
python=$toolkit/bin/python
lint "$toolkit/bin"
if [ "$scope" = quick ]; then
    exec "$python" -m pytest --ignore=test_sdk_v3.py "${selection[@]}"
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
"$python" -m pytest --ignore=test_sdk_v3.py --durations=0 2>&1 | tee "$log" || status=1
"$(environment sdk requirements_sdk.txt)/bin/python" -m pytest test_sdk_v3.py 2>&1 | tee -a "$log" || status=1
if ./build_in_chroot.py "${DUOLOGUE_BIN:-$root/build/bin}"; then
    echo "PASSED build_in_chroot.py" >>"$log"
else
    echo "FAILED build_in_chroot.py" >>"$log" && status=1
fi
{
    echo "# The last result of \`run.sh all\`"
    echo
    echo "$(date -u '+%Y-%m-%d %H:%M UTC'), commit $(git -C "$root" rev-parse --short HEAD), $(nproc) cores," \
        "$(mpirun --version | head -n 1), Python $("$python" -c 'import platform; print(platform.python_version())')"
    echo
    echo '```'
    grep -E '^(PASSED|FAILED|ERROR|SKIPPED) |^=.* in [0-9.]+s' "$log" | sed 's/^=* //; s/ =*$//'
    echo '```'
} >RESULTS.md
exit "$status"
