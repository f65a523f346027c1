# Hosts for tests: namespaces of network, mounts, processes and name, joined by a switch, an sshd in each. Sourced, not run.
# Every process of a host lives in its process namespace, so that the end of a host ends all of them; and the hosts end
# with the test, however that ends. The machine's own network is not touched.

# Fails, naming what to do, where hosts cannot be made here.
hosts_need() {
    [ "$(id -u)" -eq 0 ] || fail "network namespaces need root: run the tests as root"
    need ip iproute2
    need sshd openssh-server
    need ssh openssh-client
    need nsenter util-linux
    unshare --net --mount --uts --ipc --pid --fork true ||
        fail "no namespaces can be made here: a container needs CAP_SYS_ADMIN for these tests"
}

# hosts_up COUNT: makes the hosts; `host_names` are theirs. $folder/local is each one's own; outside it is $folder/local-N.
hosts_up() {
    hosts_need
    local i
    host_names=()
    mkdir -p "$folder/local" "$folder/ssh" "$folder/tmp"
    ssh-keygen -q -t ed25519 -N '' -f "$folder/ssh/key"
    for ((i = 1; i <= $1; ++i)); do host_names+=("host$i-$$"); done
    write_host_files
    host_pids=()
    begin_namespace host_switch_pid unshare --net --mount --fork --kill-child sleep infinity
    inside "$host_switch_pid" ip link add switch type bridge
    inside "$host_switch_pid" ip link set switch up
    for ((i = 1; i <= $1; ++i)); do host_up "$i"; done
}

write_host_files() {
    local i
    echo "127.0.0.1 localhost" >"$folder/ssh/hosts"
    for i in "${!host_names[@]}"; do echo "10.77.0.$((i + 1)) ${host_names[i]}" >>"$folder/ssh/hosts"; done
    cat >"$folder/ssh/sshd_config" <<TEXT
HostKey $folder/ssh/key
AuthorizedKeysFile $folder/ssh/key.pub
StrictModes no
PermitRootLogin yes
UsePAM no
PidFile none
TEXT
    cat >"$folder/ssh/config" <<TEXT
Host *
IdentityFile $folder/ssh/key
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
LogLevel ERROR
TEXT
}

# begin_namespace VARIABLE unshare ...: the process that keeps the namespaces. It dies with this shell.
begin_namespace() {
    local -n keeper=$1
    local outer
    setpriv --pdeathsig KILL "${@:2}" &
    outer=$!
    host_outer_pids+=("$outer")
    local tries
    for ((tries = 0; tries < 100; ++tries)); do
        keeper=$(pgrep -P "$outer") && return
        sleep 0.05
    done
    fail "a namespace did not begin"
}

# The first process of a host: mounts, sshd, and nothing more until it is ended.
host_up() {
    local i=$1 pid
    mkdir -p "$folder/local-$i"
    begin_namespace pid unshare --net --mount --uts --ipc --pid --mount-proc --fork --kill-child bash -c '
        set -e
        folder=$1 name=$2 number=$3 repository=$4
        hostname "$name"
        mount --bind "$folder/ssh/hosts" /etc/hosts
        mount --bind "$folder/local-$number" "$folder/local"
        mount -t tmpfs none /dev/shm
        mount --bind /tmp "$folder/tmp" # where the sources are in /tmp, they must stay
        mount -t tmpfs none /tmp
        if [[ $repository == /tmp/* ]]; then
            mkdir -p "$repository"
            mount --bind "$folder/tmp/${repository#/tmp/}" "$repository"
        fi
        mount -t tmpfs none /run
        mkdir /run/sshd
        ip link set lo up
        /usr/sbin/sshd -D -f "$folder/ssh/sshd_config" -E "$folder/ssh/sshd-$number.log" &
        sleep infinity &
        wait' "host$i" "$folder" "${host_names[i - 1]}" "$i" "$repository"
    host_pids+=("$pid")
    inside "$host_switch_pid" ip link add "port$i" type veth peer name eth0 netns "$pid"
    inside "$host_switch_pid" ip link set "port$i" master switch up
    on_host "$i" ip address add "10.77.0.$i/24" dev eth0
    on_host "$i" ip link set eth0 up
    wait_until 10 "sshd on host $i" grep -qs "Server listening" "$folder/ssh/sshd-$i.log"
}

inside() { nsenter --target "$1" --net --mount -- "${@:2}"; }

# on_host NUMBER COMMAND...: runs it there.
on_host() { nsenter --target "${host_pids[$1 - 1]}" --net --mount --uts --ipc --pid -- "${@:2}"; }

# host_processes NUMBER PATTERN: process ids (as seen from outside) of a host whose command line matches.
host_processes() {
    local pid
    for pid in $(pgrep -f "$2"); do
        [ "$(readlink "/proc/$pid/ns/pid" 2>/dev/null)" = "$(readlink "/proc/${host_pids[$1 - 1]}/ns/pid")" ] && echo "$pid"
    done
    return 0
}

# start_on_host NUMBER LOG COMMAND...: in the background; `job` is then its process.
start_on_host() {
    on_host "$1" "${@:3}" >"$2" 2>&1 &
    job=$!
}

# A signal to what start_on_host has started: nsenter does not pass it on.
signal_job() { kill "-$1" "$(pgrep -P "$(pgrep -P "$job" -x nsenter || echo "$job")")"; }

# end_of_job: waits for it; `status` is then its exit status.
end_of_job() {
    status=0
    wait "$job" || status=$?
}

# No process of a job is left on any host, at once or after a moment.
nothing_left() {
    local i
    for i in "${!host_names[@]}"; do
        [ -z "$(host_processes $((i + 1)) 'duologue train|orted|mpirun|ssh_host|ranks.sh')" ] || return 1
    done
}

cut_host() { on_host "$1" ip link set eth0 down; }
join_host() { on_host "$1" ip link set eth0 up; }

hosts_down() {
    local pid
    for pid in "${host_outer_pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    wait "${host_outer_pids[@]}" 2>/dev/null || true
    host_outer_pids=()
}
host_outer_pids=()
