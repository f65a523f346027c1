#!/usr/bin/env bash
# Installs Amazon's libfabric and the NCCL plugin for its network (EFA): install_efa.sh VERSION. Signed by Amazon, and checked.
set -euo pipefail

version=${1:?"usage: install_efa.sh VERSION"}
site=https://efa-installer.amazonaws.com
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

for file in "aws-efa-installer-$version.tar.gz" "aws-efa-installer-$version.tar.gz.sig" aws-efa-installer.key; do
    curl --fail --silent --show-error --location --retry 3 --remote-name "$site/$file"
done
export GNUPGHOME=$folder/gnupg
install -d -m 700 "$GNUPGHOME"
gpg --quiet --import aws-efa-installer.key
gpg --quiet --verify "aws-efa-installer-$version.tar.gz.sig" "aws-efa-installer-$version.tar.gz"

tar -xf "aws-efa-installer-$version.tar.gz"
cd aws-efa-installer
apt-get update
# The kernel's module and its limits are the host's; there is no device to look at while an image is built.
./efa_installer.sh -y --skip-kmod --skip-limit-conf --no-verify
rm -rf /var/lib/apt/lists/*
# The plugin and libfabric are found by the loader. The installer's own Open MPI is not: ranks are started by Debian's 4.1,
# which the trainer is linked with, and MPI only passes control messages here.
printf '%s\n' /opt/amazon/efa/lib /opt/amazon/ofi-nccl/lib /opt/amazon/ofi-nccl/lib/x86_64-linux-gnu \
    >/etc/ld.so.conf.d/zz-duologue-efa.conf
ldconfig
