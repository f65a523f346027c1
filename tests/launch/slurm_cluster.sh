# A Slurm cluster for tests: munged, slurmctld and a slurmd on each of the hosts that hosts.sh makes. Sourced, not run.
# Everything lies in $folder/slurm and lives in the hosts, so that it ends with them.

slurm_need() {
    need munged munge
    need slurmctld slurm-wlm
    need slurmd slurm-wlm
    need sbatch slurm-wlm
}

# slurm_up: one node per host; two partitions, of which `urgent` takes the nodes from `low`.
slurm_up() {
    slurm_need
    local i
    chmod 711 "$folder" # munged wants its socket to be reachable by all
    mkdir -p "$folder/slurm/state"
    dd if=/dev/urandom bs=1 count=1024 of="$folder/slurm/munge.key" status=none
    chmod 400 "$folder/slurm/munge.key"
    export SLURM_CONF=$folder/slurm/slurm.conf
    write_slurm_conf
    for ((i = 1; i <= ${#host_names[@]}; ++i)); do
        mkdir -p "$folder/slurm/spool-${host_names[i - 1]}" "$folder/slurm/munge-$i"
        on_host "$i" munged --foreground --socket="$folder/local/munge.socket" --key-file="$folder/slurm/munge.key" \
            --pid-file="$folder/slurm/munge-$i/pid" --seed-file="$folder/slurm/munge-$i/seed" \
            --log-file="$folder/slurm/munge-$i/log" >"$folder/slurm/munged-$i.out" 2>&1 &
    done
    for ((i = 1; i <= ${#host_names[@]}; ++i)); do
        wait_until 10 "munged on host $i" test -S "$folder/local-$i/munge.socket"
    done
    on_host 1 slurmctld -D -c >"$folder/slurm/slurmctld.out" 2>&1 &
    for ((i = 1; i <= ${#host_names[@]}; ++i)); do
        on_host "$i" slurmd -D -N "${host_names[i - 1]}" >"$folder/slurm/slurmd-$i.out" 2>&1 &
    done
    wait_until 60 "idle Slurm nodes" slurm_is_idle
}

slurm_is_idle() {
    [ "$(on_host 1 sinfo --noheader --Node --partition low --states idle 2>/dev/null | wc -l)" -eq "${#host_names[@]}" ]
}

# job_field ID NAME: of `scontrol show job`.
job_field() { on_host 1 scontrol --oneliner show job "$1" | grep -o " $2=[^ ]*" | head -n 1 | cut -d= -f2; }
job_is() { [ "$(job_field "$1" JobState)" = "$2" ]; }

# cred_expire is also how long a requeued job waits before it starts again: two minutes if not set.
write_slurm_conf() {
    local i nodes
    nodes=$(IFS=, && echo "${host_names[*]}")
    cat >"$SLURM_CONF" <<TEXT
ClusterName=test$$
SlurmctldHost=${host_names[0]}
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/local/munge.socket,cred_expire=5
StateSaveLocation=$folder/slurm/state
SlurmdSpoolDir=$folder/slurm/spool-%n
SlurmctldPidFile=$folder/slurm/slurmctld.pid
SlurmdPidFile=$folder/slurm/slurmd-%n.pid
SlurmctldLogFile=$folder/slurm/slurmctld.log
SlurmdLogFile=$folder/slurm/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_interval=2,bf_interval=2
KillWait=10
MessageTimeout=20
ReturnToService=2
MpiDefault=none
TEXT
    for i in "${!host_names[@]}"; do
        echo "NodeName=${host_names[i]} NodeAddr=10.77.0.$((i + 1)) CPUs=2 State=UNKNOWN" >>"$SLURM_CONF"
    done
    cat >>"$SLURM_CONF" <<TEXT
PartitionName=low Nodes=$nodes Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=${grace_seconds:-60}
PartitionName=urgent Nodes=$nodes MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
TEXT
}
