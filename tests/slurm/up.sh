#!/usr/bin/env bash
# A Slurm of one node on this machine, for the tests (Debian, root, no systemd):
#   tests/slurm/up.sh FOLDER              without accounting
#   WITH_DBD=1 tests/slurm/up.sh FOLDER   with accounting (mariadb, slurmdbd), for sacct and accounts
# FOLDER gets state, logs and process ids. A second call changes nothing but the accounting. A Slurm that is up already and
# is not this folder's is left as it is (and down.sh FOLDER leaves it, too). GPUS: fake GPUs of the node, 2 by default.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
gpus=${GPUS:-2}
accounting=${WITH_DBD:-0}
host=$(hostname -s)
mark="# written by tests/slurm/up.sh"

trap 'echo "tests/slurm/up.sh, line $LINENO: failed: $BASH_COMMAND" >&2' ERR
fail() { echo "$1" >&2; exit 1; }
try() { # try SECONDS COMMAND...: until it succeeds
  local end=$((SECONDS + $1)); shift
  until "$@" > /dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done
}
runs() { grep -q "($1) [^Z]" "/proc/$2/stat" 2> /dev/null; } # runs NAME PID; a zombie does not run
is_up() { local pid; pid=$(cat "$folder/run/$1.pid" 2> /dev/null) && runs "$1" "$pid"; }
is_down() { ! runs "$1" "$2"; }

if [ ! -e "$folder/ours" ] && command -v scontrol > /dev/null && timeout 5 scontrol ping 2> /dev/null | grep -q "is UP"; then
  echo "a Slurm is up already"
  exit 0
fi

# 1. Packages. policy-rc.d keeps their scripts from starting daemons where there is no systemd.
[ "$(id -u)" = 0 ] || fail "only root can start slurmctld, slurmd and munged"
need=()
for program in slurmctld slurmd munged sbatch; do command -v $program > /dev/null || need=(slurm-wlm munge); done
if [ "$accounting" = 1 ]; then
  for program in slurmdbd mariadbd; do command -v $program > /dev/null || need+=(slurmdbd mariadb-server); done
fi
if [ ${#need[@]} -gt 0 ]; then
  command -v apt-get > /dev/null || fail "no Slurm is installed, and there is no apt-get to install it (Debian, Ubuntu)"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${need[@]}"; } > "$folder/apt.log" 2>&1 ||
    fail "apt-get could not install ${need[*]}: $(tail -n 1 "$folder/apt.log")"
fi
if [ -e /etc/slurm/slurm.conf ] && ! grep -qF "$mark" /etc/slurm/slurm.conf; then
  fail "/etc/slurm/slurm.conf belongs to another Slurm, which is not up"
fi

# 2. Configuration. It must be /etc/slurm/slurm.conf: Snakemake's plugin drops SLURM_CONF inside of its jobs.
mkdir -p "$folder"/{state,spool,log,run,dev} /etc/slurm
chmod 755 "$folder" "$folder"/*
touch "$folder/ours"
storage=none
gather=none
if [ "$accounting" = 1 ]; then
  storage=slurmdbd
  gather=linux
fi
# Memory is only counted here, and the profile requests 64 GB for an update: the node says that it has them.
cat > "$folder/slurm.conf" << CONF
$mark
ClusterName=extra
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
# no control groups
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SchedulerParameters=batch_sched_delay=0,sched_min_interval=200000,bf_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
GresTypes=gpu
# squeue shows finished jobs as long as this
MinJobAge=600
KillWait=5
ReturnToService=2
AccountingStorageType=accounting_storage/$storage
JobAcctGatherType=jobacct_gather/$gather
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc --all) RealMemory=150000 Gres=gpu:$gpus State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
# Slurm counts GPUs by device files: each is a twin of /dev/null.
: > /etc/slurm/gres.conf
for ((gpu = 0; gpu < gpus; gpu++)); do
  [ -e "$folder/dev/gpu$gpu" ] || mknod "$folder/dev/gpu$gpu" c 1 3
  echo "NodeName=$host Name=gpu File=$folder/dev/gpu$gpu" >> /etc/slurm/gres.conf
done
changed=0
cmp -s "$folder/slurm.conf" /etc/slurm/slurm.conf || { changed=1; cp "$folder/slurm.conf" /etc/slurm/slurm.conf; }

# 3. munge
if ! munge -n 2> /dev/null | unmunge > /dev/null 2>&1; then
  mkdir -p /etc/munge /run/munge /var/lib/munge /var/log/munge
  [ -s /etc/munge/munge.key ] || (umask 077 && head -c 128 /dev/urandom > /etc/munge/munge.key)
  chown -R munge: /etc/munge /run/munge /var/lib/munge /var/log/munge
  runuser -u munge -- munged
  cp /run/munge/munged.pid "$folder/run/munged.pid"
  try 10 munge -n || fail "munged does not answer"
fi

# 4. Accounting, with one account, `test`
if [ "$accounting" = 1 ] && ! is_up slurmdbd; then
  if [ ! -d "$folder/database" ]; then
    # As root: the user mysql cannot enter a folder of root's that only root may read.
    mariadb-install-db --no-defaults --user=root --datadir="$folder/database" \
      --auth-root-authentication-method=normal > "$folder/log/mariadb-install.log" 2>&1 ||
      fail "mariadb-install-db failed: $folder/log/mariadb-install.log"
  fi
  mysql=(--no-defaults --socket="$folder/run/mariadb.sock")
  if ! is_up mariadbd; then
    setsid mariadbd "${mysql[@]}" --user=root --datadir="$folder/database" --pid-file="$folder/run/mariadbd.pid" \
      --skip-networking --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 \
      > "$folder/log/mariadb.log" 2>&1 < /dev/null &
    try 30 mariadb-admin "${mysql[@]}" ping || fail "mariadbd does not answer: $folder/log/mariadb.log"
  fi
  mariadb "${mysql[@]}" -u root -e "create database if not exists slurm_acct_db;
    create or replace user slurm@localhost identified by 'slurm'; grant all on slurm_acct_db.* to slurm@localhost"
  (umask 077 && cat > /etc/slurm/slurmdbd.conf) << CONF
$mark
DbdHost=localhost
SlurmUser=root
StorageType=accounting_storage/mysql
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
LogFile=$folder/log/slurmdbd.log
PidFile=$folder/run/slurmdbd.pid
CONF
  MYSQL_UNIX_PORT="$folder/run/mariadb.sock" slurmdbd
  try 30 sacctmgr -n list cluster || fail "slurmdbd does not answer: $folder/log/slurmdbd.log"
  for entity in "cluster extra" "account test" "user root account=test"; do
    sacctmgr -i add $entity > /dev/null 2>&1 || true  # it exists
  done
fi

# 5. The controller, and the node
if [ $changed = 1 ] && is_up slurmctld; then
  for name in slurmd slurmctld; do
    pid=$(cat "$folder/run/$name.pid")
    kill "$pid"
    try 20 is_down $name "$pid" || fail "$name does not end"
  done
fi
is_up slurmctld || slurmctld
try 20 bash -c "scontrol ping | grep -q 'is UP'" || fail "slurmctld does not answer: $folder/log/slurmctld.log"
is_up slurmd || slurmd
try 30 bash -c "sinfo -h -o %T | grep -qE '^(idle|mixed|allocated)$'" || fail "the node does not come up: $(sinfo -h -o '%T %E')"
sinfo -N -o "%N %T %c CPUs %m MB %G"
