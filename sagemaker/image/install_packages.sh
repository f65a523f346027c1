#!/usr/bin/env bash
# Installs Debian packages into an image and leaves no package lists behind: install_packages.sh PACKAGE ...
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends "$@"
rm -rf /var/lib/apt/lists/*
