#!/usr/bin/env bash
# Packs one relocatable archive: the programs, what they need of this machine's libraries, Open MPI, configurations.
. "$(dirname "$0")/common.sh"

usage() {
    cat <<'TEXT'
usage: launch/bundle.sh [--preset NAME] [--output FILE] [--programs DIR]
  --preset NAME    which of CMake's presets is built and packed (default: cpu)
  --output FILE    the archive; its ending names the compression: .tar.gz, .tar.xz, .tar.zst
                   (default: duologue-PRESET.tar.gz)
  --programs DIR   packs the programs of this folder as they are and builds nothing
Unpacked anywhere on an x86-64 machine with glibc of this machine's version or newer, `./run COMMAND` runs a program of the
archive. NVIDIA's libraries are not packed; `run` looks for them where the machine has them.
TEXT
}

preset=cpu
output=
programs=
while [ $# -gt 0 ]; do
    case $1 in
        --preset) [ -n "${2:-}" ] && preset=$2 && shift || wrong "--preset needs a name" ;;
        --output) [ -n "${2:-}" ] && output=$2 && shift || wrong "--output needs a file" ;;
        --programs) [ -n "${2:-}" ] && programs=$2 && shift || wrong "--programs needs a folder" ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && wrong "'$1' is none of these" ;;
    esac
    shift
done
require_preset "$preset"
output=${output:-duologue-$preset.tar.gz}
[[ $output =~ \.tar\.(gz|xz|zst)$ ]] && [ ! -d "$output" ] ||
    wrong "--output is '$output', which is no file that ends with .tar.gz, .tar.xz or .tar.zst"
[ -d "$(dirname "$output")" ] || die "cannot write '$output': there is no folder $(dirname "$output")"
for tool in objdump strip mpirun; do
    command -v "$tool" >/dev/null || die "$tool is missing; launch/install_deps.sh installs it"
done

# What launch/gpu_check.sh runs besides the trainer; it exists in builds with CUDA only.
gpu_programs=(cuda_contract_test cuda_golden_test nccl_test libkernel_times.so)
# Only of use on clusters, with other networks, for other programming models, or with files shared by ranks.
unused_plugins='ucx|ofi|psm|openib|slurm|flux|gridengine|jsm|plm_rsh|monitoring|_han|_adapt|oshmem|memheap|scoll|spml|sshmem'
unused_plugins+='|atomic|mca_io_|fbtl|fcoll|mca_fs_|sharedfp|vprotocol|dbg_msgq|simulator|pml_cm'
# Of the machine where the archive is unpacked, never of this one: the C library and NVIDIA's.
c_library='(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|util|mvec|anl|nsl|nss_.*|thread_db))\.so.*'
nvidia='lib(cuda|cublas|cudnn|cupti|nvrtc|nvJitLink|nccl)[^ ]*\.so.*'

needed_of() { objdump -p "$1" | awk '$1 == "NEEDED" {print $2}'; }

# The libraries that the files $@ need, and those need in turn: "name path" a line.
libraries_of() {
    LC_ALL=C ldd "$@" 2>/dev/null | sed -nE 's/^\s+(\S+) => (.*\S)( \(0x.*\))?$/\1 \2/p' | sed 's/ (0x.*//' | sort -u |
        grep -Evx "($c_library|$nvidia) .*" || true
}

# Copies into lib/ whatever the packed programs and plugins need.
carry_libraries() {
    local files name path
    mapfile -t files < <(find "$stage/bin" "$stage/lib" -type f \( -path "$stage/bin/*" -o -name '*.so' \))
    libraries_of "${files[@]}" | while read -r name path; do
        [ "$path" != "not found" ] || die "$name, which a packed file needs, is not found on this machine"
        cp -L --no-preserve=mode "$path" "$stage/lib/$name"
        carry_licence "$path"
    done
}

# The licence of the Debian package that $1 comes from; of what no package owns, none is known.
carry_licence() {
    local package
    # By the name alone: packages list files of /usr/lib as /lib, or the other way round.
    package=$(dpkg-query -S "*/$(basename "$(readlink -f "$1")")" 2>/dev/null | sed -n '1s/:.*//p') || true
    if [ -n "$package" ] && [ -f "/usr/share/doc/$package/copyright" ]; then
        cp -L "/usr/share/doc/$package/copyright" "$stage/licences/$package"
    fi
}

carry_program() { install --strip -m 755 "$1" "$stage/bin/$2"; }

carry_programs() {
    local name
    for name in duologue duologue-preprocess; do
        [ -x "$programs/$name" ] || die "$programs has no $name"
        carry_program "$programs/$name" "$name"
    done
    : >"$stage/lib/nvidia_libraries"
    if [ -e "$programs/../lib/libduologue_cuda.so" ]; then carry_gpu_parts; fi
}

# The module that the program loads when a GPU is asked for, with the search path of an installed file, and its tests.
carry_gpu_parts() {
    local name
    for name in "${gpu_programs[@]}"; do
        [ -x "$programs/$name" ] || die "$programs has no $name, which launch/gpu_check.sh needs"
        carry_program "$programs/$name" "$name"
    done
    cmake --install "$programs/.." --component cuda --prefix "$stage" --strip >/dev/null
    needed_of "$stage/lib/libduologue_cuda.so" | grep -Ex "$nvidia" >"$stage/lib/nvidia_libraries"
}

# Open MPI of this machine, in the folders where OPAL_PREFIX makes it look for its parts.
carry_open_mpi() {
    local system plugins pmix
    system=$(dirname "$(ldconfig -p | sed -n 's/.* => \(.*libmpi\.so\.40\)$/\1/p' | head -n 1)")
    plugins=${system#/lib} && plugins=/usr/lib${plugins#/usr/lib}/openmpi/lib/openmpi3
    [ -d "$plugins" ] || die "Open MPI's plugins are not in $plugins; this needs Debian's or Ubuntu's Open MPI 4"
    mkdir -p "$stage${plugins#/usr}" "$stage/share" "$stage/etc" "$stage/lib/pmix"
    find "$plugins" -name 'mca_*.so' | grep -Ev "$unused_plugins" | xargs cp -t "$stage${plugins#/usr}"
    pmix=$(dirname "$plugins" | xargs dirname | xargs dirname)/pmix2
    cp "$pmix"/lib/pmix/pmix_mca_{pcompress_zlib,prm_default}.so "$stage/lib/pmix/"
    cp -rL /etc/openmpi "$stage/etc/"
    mkdir "$stage/share/openmpi"
    cp /usr/share/openmpi/help-*.txt "$stage/share/openmpi/"
    carry_program "$(readlink -f "$(command -v mpirun)")" mpirun
    carry_program "$(readlink -f "$(command -v orted)")" orted
}

carry_texts() {
    cp -r configs "$stage/configs"
    cp launch/bundle/{run,env.sh} "$stage/"
    cp LICENSE "$stage/"
    mkdir -p "$stage/launch" "$stage/tests"
    cp launch/{common.sh,gpu_check.sh,demo_prompts.txt} "$stage/launch/"
    cp -r tests/golden tests/gpu tests/bench "$stage/tests/"
    find "$stage/tests" -name __pycache__ -prune -exec rm -r {} +
    {
        echo "commit $(git rev-parse HEAD 2>/dev/null || echo unknown)$(git diff --quiet HEAD 2>/dev/null || echo ' with changes')"
        echo "built on $(. /etc/os-release && echo "$PRETTY_NAME"), $(getconf GNU_LIBC_VERSION)"
    } >"$stage/ORIGIN"
}

if [ -z "$programs" ]; then
    say "building ($preset)"
    launch/build.sh "$preset"
    programs=$(build_folder "$preset")/bin
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
stage=$folder/duologue
mkdir -p "$stage"/{bin,lib,licences}
carry_programs
carry_open_mpi
carry_libraries
carry_texts
tar --create --auto-compress --file "$output" --directory "$folder" --sort=name --owner=0 --group=0 --numeric-owner duologue
echo "$output: $(du -h --apparent-size "$output" | cut -f1), unpacked $(du -sh --apparent-size "$stage" | cut -f1)"
