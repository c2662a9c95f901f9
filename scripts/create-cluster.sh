#!/bin/bash
# Makes one Redis Cluster of running servers: half of them become primaries, each with a replica. A cluster that exists stays as it
# is; its servers only learn each other's addresses again, because a container may get another address when it starts. The container
# `cluster` of docker-compose.cluster.yml runs this script at each `up`.
#
# create-cluster.sh HOST:PORT…        such as: create-cluster.sh redis:6379 redis-2:6379 …
set -euo pipefail

slots=16384
servers=()
for server in "$@"; do
    # Servers of a cluster know each other by addresses, not by names.
    address=$(getent ahostsv4 "${server%:*}" | awk '{ print $1; exit }')
    if [ -z "$address" ]; then
        echo "The host ${server%:*} has no address: correct the name, or start this server first" >&2
        exit 1
    fi
    servers+=("$address:${server##*:}")
done
primaries=$((${#servers[@]} / 2))

ask() { # ask SERVER COMMAND…
    redis-cli -h "${1%:*}" -p "${1##*:}" "${@:2}"
}

wait_until() { # wait_until WHAT COMMAND…
    local tries=0
    until "${@:2}"; do
        tries=$((tries + 1))
        if [ "$tries" -ge 600 ]; then
            echo "$1: not within a minute" >&2
            exit 1
        fi
        sleep 0.1
    done
}

answers() { # answers SERVER
    [ "$(ask "$1" ping 2>/dev/null)" = PONG ]
}

# Prints the line of CLUSTER NODES about the server itself: id, address, flags, id of its primary, two times, epoch, link, and its
# slots.
itself() { # itself SERVER
    ask "$1" cluster nodes | grep myself
}

is_replica() { # is_replica SERVER
    [[ $(itself "$1") == *slave* ]]
}

owned_slots() { # owned_slots SERVER
    itself "$1" | awk '{
        for (i = 9; i <= NF; i++) if ($i !~ /^\[/) { n = split($i, ends, "-"); sum += ends[n] - ends[1] + 1 }
        print sum + 0
    }'
}

knows_all() { # knows_all SERVER
    [ "$(ask "$1" cluster nodes | grep -c ' connected')" -ge "${#servers[@]}" ]
}

is_complete() { # is_complete SERVER
    local info
    info=$(ask "$1" cluster info)
    [[ $info == *cluster_state:ok* && $info == *cluster_slots_ok:$slots* ]]
}

replicate() { # replicate SERVER PRIMARY
    [ "$(ask "$1" cluster replicate "$2")" = OK ]
}

# A replica can replace its primary only after it has copied the primary once.
has_copy() { # has_copy SERVER
    [[ $(ask "$1" info replication) != *master_link_status:down* ]]
}

each() { # each WHAT COMMAND: waits until the command succeeds for each server
    local server
    for server in "${servers[@]}"; do
        wait_until "$server $1" "$2" "$server"
    done
}

each "answers" answers
owned=0
for server in "${servers[@]}"; do
    owned=$((owned + $(owned_slots "$server")))
done
if [ "$owned" -lt "$slots" ]; then
    # The cluster is new, or an earlier run was interrupted; the servers refuse steps that the earlier run has done already.
    for ((n = 0; n < primaries; n++)); do
        ask "${servers[n]}" cluster addslotsrange $((n * slots / primaries)) $(((n + 1) * slots / primaries - 1)) || true
        # With different config epochs, the primaries have no conflict of epochs to resolve.
        ask "${servers[n]}" cluster set-config-epoch $((n + 1)) || true
    done
fi
for server in "${servers[@]}"; do
    bus_port=$(itself "$server" | sed -E 's/^[^@]*@([0-9]+).*/\1/')
    for other in "${servers[@]}"; do
        if [ "$other" != "$server" ]; then
            ask "$other" cluster meet "${server%:*}" "${server##*:}" "$bus_port" >/dev/null
        fi
    done
done
each "knows all servers" knows_all

replicas=0
knows_replicas() { # knows_replicas SERVER
    [ "$(ask "$1" cluster nodes | grep -c slave)" -ge "$replicas" ]
}
for server in "${servers[@]}"; do
    if is_replica "$server"; then
        replicas=$((replicas + 1))
    fi
done
for server in "${servers[@]}"; do
    if ! is_replica "$server" && [ "$(owned_slots "$server")" = 0 ]; then
        each "knows all replicas" knows_replicas
        # The server becomes a replica of the primary with the fewest replicas.
        primary=$(ask "$server" cluster nodes | awk '
            $3 ~ /master/ && NF > 8 { replicas[$1] += 0 }
            $3 ~ /slave/ { replicas[$4]++ }
            END { for (id in replicas) if (best == "" || replicas[id] < replicas[best]) best = id; print best }')
        wait_until "$server is a replica" replicate "$server" "$primary"
        replicas=$((replicas + 1))
    fi
done

each "sees all slots" is_complete
each "has a copy of its primary" has_copy
echo "The cluster of ${#servers[@]} servers is complete."
