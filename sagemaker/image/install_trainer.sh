#!/usr/bin/env bash
# Lays out the trainer's folder of the image: install_trainer.sh BIN_FOLDER DESTINATION. The tests lay out theirs with it too.
set -euo pipefail

[ $# -eq 2 ] || {
    echo "usage: install_trainer.sh BIN_FOLDER DESTINATION" >&2
    exit 2
}
bin=$1
destination=$2
root=$(cd "$(dirname "$0")/../.." && pwd)

install -d "$destination"/{bin,code,python,configs}
install -m 755 "$bin"/{duologue,duologue-preprocess} "$root/sagemaker/container/sm-entrypoint" "$destination/bin/"
# The CUDA back end, where it was built: a module that the program looks for in ../lib.
if [ -e "$bin/../lib/libduologue_cuda.so" ]; then
    cmake --install "$bin/.." --component cuda --prefix "$destination" --strip >/dev/null
fi
install -m 755 "$root/sagemaker/container/train.sh" "$destination/code/"
install -m 644 "$root/sagemaker/container/trainer_sm.py" "$destination/python/"
install -m 644 "$root/sagemaker/container/prompts.txt" "$destination/"
for config in "$root"/configs/*.json; do
    case $config in
        */sagemaker_config.json) ;; # describes a job to the client, not a model to the trainer
        *) install -m 644 "$config" "$destination/configs/" ;;
    esac
done
