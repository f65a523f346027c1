#!/usr/bin/env bash
# The README's list of files, made from the first sentence of each: prints it; --write puts it there, --check compares.
set -euo pipefail
cd "$(dirname "$0")/.."
folders=(include src preprocess launch sagemaker tests)

# The first sentence of a file's opening comment.
purpose() {
    awk '
        NR == 1 && /^#!/ { next }
        NR <= 2 && text == "" && /^"""/ { gsub(/"""/, ""); text = $0; exit }
        /^(\/\/|#) / { sub(/^(\/\/|#) /, ""); text = text (text == "" ? "" : " ") $0; next }
        { exit }
        END { sub(/\. [A-Z].*/, "", text); sub(/[.;]$/, "", text); print text }' "$1"
}

# One line for a header and its source: the header speaks for both.
tree() {
    local folder name path previous=
    find "${folders[@]}" -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cmake' -o -name '*.sh' \
        -o -name '*.py' \) -not -path '*/*_violations/*' -printf '%h\t%f\n' |
        LC_ALL=C sort |
        while IFS=$'\t' read -r folder name; do
            path=$folder/$name
            case $path in
                src/*.cpp | preprocess/*.cpp | tests/*.cpp)
                    [ ! -f "${path%.cpp}.h" ] || continue
                    [ ! -f "include/duologue/${folder#src/}/${name%.cpp}.h" ] || continue
                    ;;
            esac
            case $path in
                include/*) [ ! -f "src/${folder#include/duologue/}/${name%.h}.cpp" ] || name=${name%.h}.{h,cpp} ;;
                *.h) [ ! -f "${path%.h}.cpp" ] || name=${name%.h}.{h,cpp} ;;
            esac
            if [ "$folder" != "$previous" ]; then
                echo "$folder/"
                previous=$folder
            fi
            printf '  %-30s %s\n' "$name" "$(purpose "$path")"
        done
}

with_tree() {
    awk -v tree="$(tree)" '
        /^<!-- files -->$/ { print; print "```"; print tree; print "```"; skipping = 1; next }
        /^<!-- end of files -->$/ { skipping = 0 }
        !skipping { print }' README.md
}

case ${1:-} in
    "") tree ;;
    --write) with_tree >README.new && mv README.new README.md ;;
    --check) with_tree | diff -u README.md - || {
        echo "README.md does not list the files as they are: run tests/file_tree.sh --write" >&2
        exit 1
    } ;;
    *) echo "usage: tests/file_tree.sh [--write | --check]" >&2 && exit 2 ;;
esac
