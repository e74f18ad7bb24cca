#!/usr/bin/env bash
# accelerate 1.15.0: `accelerate launch --cpu --num_processes 2` starts one process.
#
# One would guess that --num_processes is the number of processes, as it is on GPUs, or that a launcher
# that cannot start as many says so. On processors the script runs once, without RANK or WORLD_SIZE, and
# the exit status is 0: data-parallel training is then training on one process with a batch that is half
# as large as planned, and the other cores idle.
#
# Remedy: torchrun --nproc-per-node 2 SCRIPT starts two.
#
# Output seen:
#   accelerate launch --num_processes 2: 1 process, WORLD_SIZE none
#   torchrun --nproc-per-node 2: 2 processes, WORLD_SIZE 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 accelerate==1.15.0
cat >"$folder/shown.py" <<'PYTHON'
import os
import sys

with open(sys.argv[1], "a") as file:
    file.write(os.environ.get("WORLD_SIZE", "none") + "\n")
PYTHON
export OMP_NUM_THREADS=1
"$folder/venv/bin/accelerate" launch --cpu --num_processes 2 "$folder/shown.py" "$folder/one" >/dev/null 2>&1
"$folder/venv/bin/torchrun" --standalone --nproc-per-node 2 "$folder/shown.py" "$folder/two" >/dev/null 2>&1
one=$(wc -l <"$folder/one") two=$(wc -l <"$folder/two")
echo "accelerate launch --num_processes 2: $one process, WORLD_SIZE $(sort -u "$folder/one")"
echo "torchrun --nproc-per-node 2: $two processes, WORLD_SIZE $(sort -u "$folder/two")"
[ "$one $two $(sort -u "$folder/one") $(sort -u "$folder/two")" = "1 2 none 2" ]
