#!/usr/bin/env bash
# Tells Spark which GPUs an executor or worker has: {"name":"gpu","addresses":["0","1"]}
set -euo pipefail

indices=$(nvidia-smi --query-gpu=index --format=csv,noheader)  # on its own line, so that a failure is one
addresses=$(printf '%s\n' "$indices" | sed 's/.*/"&"/' | paste -sd, -)
printf '{"name":"gpu","addresses":[%s]}\n' "$addresses"
