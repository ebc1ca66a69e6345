# Shell functions shared by tests/support/{services,reaper,postgres,kafka}. Sourced by bash.
#
# A *run* is one private directory, made by tests/support/services and removed by
# tests/support/reaper: data directories, sockets, logs/, and pids/, where every long-lived process
# is noted. A pid file holds "pid starttime": the start time of /proc/PID/stat tells a process from
# a later one that was given the same number, so nothing that is not ours is ever signalled.

say() {
    echo "${0##*/}: $*" >&2
}

die() {
    say "$@"
    exit 69
}

# A loopback port nobody listens on, below the range that outgoing connections use. Whoever binds it
# must be ready to lose the race and ask again.
free_port() {
    local port
    while :; do
        port=$((15000 + (RANDOM * 32768 + RANDOM) % 17000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# wait_until SECONDS command...: true as soon as the command is, false when the time is over.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.05 # poll
    done
}

start_time() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    set -- ${stat##*) }
    echo "${20}"
}

# note_pid NAME PID. A process that has ended already is noted as "PID ended".
note_pid() {
    echo "$2 $(start_time "$2" || echo ended)" >"$MILLRACE_RUN/pids/$1"
}

# noted_pid NAME: prints the pid, if that very process still lives (a zombie does not count). One look
# tells both: between two it may be gone.
noted_pid() {
    local pid since stat
    read -r pid since 2>/dev/null <"$MILLRACE_RUN/pids/$1" || return 1
    stat=$(cat "/proc/$pid/stat" 2>/dev/null) || return 1
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    [ "$1" != Z ] && [ "${20}" = "$since" ] || return 1
    echo "$pid"
}

is_gone() {
    ! noted_pid "$1" >/dev/null
}

# end_noted NAME SIGNAL SECONDS: signal it, wait, and kill what has not gone by then.
end_noted() {
    local pid
    pid=$(noted_pid "$1") || return 0
    kill "-$2" "$pid" 2>/dev/null || true
    if ! wait_until "$3" is_gone "$1"; then
        say "$1 (pid $pid) did not end within $3 s of SIG$2: killed"
        kill -KILL "$pid" 2>/dev/null || true
        wait_until 10 is_gone "$1" || true
    fi
}
