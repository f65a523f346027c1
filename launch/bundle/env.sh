# What the programs of this archive need to know: where Open MPI's parts and NVIDIA's libraries are. Sourced, not run.
# DUOLOGUE_CUDA_LIBRARIES names folders of NVIDIA's libraries that are looked into first, with colons between them.

bundle=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PATH=$bundle/bin:$PATH
# Not by RPATH: what NVIDIA's libraries load themselves is found in LD_LIBRARY_PATH only.
export LD_LIBRARY_PATH=$bundle/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

# Open MPI looks for its plugins, its configuration and its messages where it was installed, unless told otherwise.
export OPAL_PREFIX=$bundle OPAL_SYSCONFDIR=$bundle/etc/openmpi
export PMIX_INSTALL_PREFIX=$bundle PMIX_MCA_mca_base_component_path=$bundle/lib/pmix
# One machine: no remote shell, loopback only, root and more ranks than cores allowed, plain copies between processes,
# ranks on whatever cores are free.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_plm=isolated OMPI_MCA_btl=self,vader,tcp OMPI_MCA_btl_vader_single_copy_mechanism=none
export OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_include=lo
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none

# Folders in which NVIDIA's libraries may lie: named ones, pip's packages, the toolkit.
nvidia_folders() {
    local packages
    local where='import importlib.util as u; found = u.find_spec("nvidia"); print(*found.submodule_search_locations, sep="\n")'
    if [ -n "${DUOLOGUE_CUDA_LIBRARIES:-}" ]; then tr : '\n' <<<"$DUOLOGUE_CUDA_LIBRARIES"; fi
    if command -v python3 >/dev/null; then
        python3 -c "$where" 2>/dev/null | while read -r packages; do printf '%s\n' "$packages"/*/lib; done || true
    fi
    printf '%s\n' /usr/local/cuda/lib64 /usr/local/cuda/extras/CUPTI/lib64
}

# Puts the folders that exist at the end of LD_LIBRARY_PATH: what was there already goes before them. Says what is missing
# where there is an NVIDIA driver; elsewhere nothing needs it.
find_nvidia_libraries() {
    local folder name found
    while read -r folder; do
        [ ! -d "$folder" ] || LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$folder
    done < <(nvidia_folders)
    [ -e /dev/nvidiactl ] || return 0
    while read -r name; do
        found=no
        while read -r folder; do
            [ ! -e "$folder/$name" ] || found=yes
        done < <(tr : '\n' <<<"$LD_LIBRARY_PATH"; printf '%s\n' /usr/lib/x86_64-linux-gnu /usr/lib64)
        [ "$found" = yes ] ||
            echo "env.sh: $name is not in $LD_LIBRARY_PATH; name its folder in DUOLOGUE_CUDA_LIBRARIES" >&2
    done <"$bundle/lib/nvidia_libraries"
}
if [ -s "$bundle/lib/nvidia_libraries" ]; then find_nvidia_libraries; fi
