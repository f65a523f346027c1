#!/usr/bin/env bash
# What every GPU kernel takes: registers, shared memory, stack, spills; exit status 1 where one spills.
#   tests/kernel_report.sh [BUILD_FOLDER [ARCHITECTURE]]     compiles every .cu of build-cuda once more, for sm_90a
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
    -h | --help) sed -n 's/^# *//; 2,3p' "tests/kernel_report.sh" && exit 0 ;;
esac
build=${1:-build-cuda}
architecture=${2:-sm_90a}

# The compile commands of the .cu files, without what they write and for which cards.
commands() {
    python3 - "$build/compile_commands.json" <<'PYTHON'
import json, re, shlex, sys

for entry in json.load(open(sys.argv[1])):
    # The emulated GPU compiles them, too, as C++.
    if not entry["file"].endswith(".cu") or "--generate-code" not in entry["command"]:
        continue
    words = [w for w in shlex.split(entry["command"]) if not re.search(r"generate-code|ccache$|^-Xptxas", w)]
    out = words.index("-o")
    del words[out:out + 2]
    print(shlex.join(words))
PYTHON
}

# "Compiling entry function 'NAME'", "N bytes stack frame, N bytes spill stores, N bytes spill loads",
# "Used N registers, used N barriers, N bytes smem" become one line a kernel.
table() {
    awk '
        /Compiling entry function/ { split($0, quoted, "\x27"); name = quoted[2] }
        /bytes stack frame/ { gsub(",", ""); for (i = 1; i < NF; ++i) { if ($(i + 2) == "stack") stack = $i
                              if ($(i + 2) == "spill") spill += $i } }
        /Used .* registers/ { smem = 0; for (i = 1; i < NF; ++i) { if ($i == "Used") registers = $(i + 1)
                              if ($(i + 2) ~ /^smem/) smem = $i }
                              printf "%9d %7d %6d %6d  %s\n", registers, smem, stack, spill, name; spill = 0 }' |
        c++filt | sed -E 's/void |duologue::cuda::|\(anonymous namespace\)::|_INTERNAL_[A-Za-z0-9_]*:://g' | sort -rn
}

report=$(commands | while read -r command; do
    (cd "$build" && bash -c "$command -arch=$architecture -cubin -o /dev/null -Xptxas=-v" 2>&1)
done | table)
printf '%9s %7s %6s %6s  kernel (%s)\n%s\n' registers smem stack spills "$architecture" "$report"
! awk '$4 > 0 { found = 1 } END { exit !found }' <<<"$report"
