#!/usr/bin/env bash
# End what tests/slurm/up.sh FOLDER has started, and remove its configuration; the folder keeps the logs.
set -u
folder=$1
[ -e "$folder/ours" ] || exit 0
runs() { grep -q "($1) [^Z]" "/proc/$2/stat" 2> /dev/null; } # runs NAME PID; a zombie does not run
stop() {
  local pid
  pid=$(cat "$folder/run/$1.pid" 2> /dev/null) && runs "$1" "$pid" || return 0
  kill "$pid"
  for _ in $(seq 100); do
    runs "$1" "$pid" || return 0
    sleep 0.1
  done
  kill -9 "$pid"
}
timeout 10 scancel --user="$(id -un)" 2> /dev/null
for name in slurmd slurmctld slurmdbd mariadbd munged; do stop $name; done
rm -f /etc/slurm/{slurm,gres,slurmdbd}.conf "$folder/ours"
