#!/usr/bin/env bash
# `docker run voxmake all CONFIG=configs/demo.yaml` is `make all CONFIG=configs/demo.yaml`.
set -euo pipefail

data="${VOXMAKE_DATA:-data}"
if [[ "${1:-help}" != help && ! -w "$data" ]]; then
    echo "voxmake: user $(id -u) can't write $data: mount a folder of that user's there (-v \"\$PWD/data:$data\"), or start with --user" >&2
    exit 70
fi
exec make "$@"
