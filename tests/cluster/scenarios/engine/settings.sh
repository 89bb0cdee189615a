#!/usr/bin/env bash
# Settings of an engine and of its host that reach clusters: packet size, privileges, limits, and routes in tables of their
# own. Runs in namespaces of its own, with an engine of its own: settings.sh DIRECTORY CORACLE IMAGE
set -euo pipefail
# The engine's configuration is there before it starts.
cat >"$1/daemon.json" <<'JSON'
{
    "mtu": 1400,
    "no-new-privileges": true,
    "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 1024, "Soft": 1024}},
    "default-shm-size": "1m",
    "default-cgroupns-mode": "host",
    "log-driver": "none",
    "icc": false,
    "userland-proxy": false,
    "live-restore": true
}
JSON
# shellcheck source=tests/cluster/harness/own-engine.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../harness/own-engine.sh"
name=t-accept-settings

clean_up() {
    "$coracle" delete clusters --all --quiet || true
    stop_engine
}

start_engine
load_image
export DOCKER_HOST=$own
trap clean_up EXIT
kubectl() { timeout 30 "$coracle" kubectl --name "$name" "$@"; }
# on COMMAND...: in the node.
on() { docker exec "$name-control-plane" "$@"; }
# refused TEXT...: a configuration that is refused, with all of this said, before anything is made.
refused() {
    if "$coracle" create cluster --name "$name" --config "$directory/cluster.yaml" >"$directory/said" 2>&1; then
        fail "it was not refused:" "$(cat "$directory/cluster.yaml")"
    fi
    told "$directory/said" "$@"
    nothing_left
}
head='apiVersion: coracle.dev/v1alpha1\nkind: Cluster\n'

# A VPN's interface, a route to it in the table of a rule, and the narrow way out of this host.
ip link add vpn mtu 1300 type veth peer name vpn-end mtu 1300
ip link set vpn-end up
ip address add 192.0.2.1/24 dev vpn
ip link set vpn up
ip route add default via 192.0.2.2 dev vpn
ip route add 172.18.0.0/22 dev vpn table 77
ip route add 10.96.0.0/16 dev vpn table 77
ip rule add from all lookup 77 priority 5000

# The first subnet that coracle would choose is the VPN's, and the one of a configuration is refused.
printf '%bnetworking: {nodeSubnet: 172.18.0.0/20}\n' "$head" >"$directory/cluster.yaml"
refused subnet-clash "172.18.0.0/22 dev vpn table 77"
# What this host does not have is told with its place, all at once.
ln -s gone "$directory/link"
printf '%bnodes:\n- role: control-plane\n  extraMounts:\n  - {hostPath: link, containerPath: /a}\n' "$head" >"$directory/cluster.yaml"
printf '  - {hostPath: /, containerPath: /b, propagation: Bidirectional}\n' >>"$directory/cluster.yaml"
printf 'networking: {apiServerAddress: 198.51.100.1}\n' >>"$directory/cluster.yaml"
refused config-invalid "cluster.yaml:6:16" "symbolic link to \`gone\`" "cluster.yaml:7:" "mount --make-rshared" \
    "cluster.yaml:8:" "no address \`198.51.100.1\`"
HTTPS_PROXY=http://127.0.0.1:3128 "$coracle" create cluster --name "$name" >"$directory/said" 2>&1 ||
    fail "no cluster:" "$(cat "$directory/said")"
for part in "10.96.0.0/16 dev vpn table 77" "\`vpn\`" "1300 bytes" "proxy \`http://127.0.0.1:3128\`: nothing listens"; do
    grep --quiet --fixed-strings -e "$part" "$directory/said" || fail "\`$part\` is not in:" "$(cat "$directory/said")"
done

subnet=$(docker network inspect --format '{{(index .IPAM.Config 0).Subnet}}' "coracle-$name")
[ "$subnet" != 172.18.0.0/22 ] || fail "the cluster has the VPN's subnet"
[ "$(on cat /sys/class/net/eth0/mtu)" = 1400 ] || fail "the node's packets have $(on cat /sys/class/net/eth0/mtu) bytes"
pods=$(on sh -c 'cat /sys/class/net/veth*/mtu' | sort -u)
[ "$pods" = 1400 ] || fail "the pods' packets have $pods bytes"
[ "$(on sh -c 'grep NoNewPrivs /proc/self/status | cut -f 2')" = 0 ] || fail "programs in nodes get no new privileges"
open=$(on sh -c 'ulimit -H -n')
[ "$open" -gt 4096 ] || fail "a process in the node may open $open files only"
shared=$(on sh -c 'df --output=size /dev/shm | tail -n 1')
[ "$shared" -eq 65536 ] || fail "/dev/shm of the node has $shared KiB"
[ -n "$(docker logs "$name-control-plane" 2>&1)" ] || fail "the node's console is empty"
# A port is told with who has it.
port=$(docker port "$name-control-plane" 6443 | sed 's/.*://')
printf '%bnetworking: {apiServerPort: %s}\n' "$head" "$port" >"$directory/cluster.yaml"
if "$coracle" create cluster --name t-accept-other --config "$directory/cluster.yaml" >"$directory/said" 2>&1; then
    fail "a cluster has the port of another one"
fi
told "$directory/said" port-taken "port $port on 127.0.0.1 is taken" "the container \`$name-control-plane\` publishes it"

# A VPN whose rules take everything is told by the route, and nothing is left.
ip route add default dev vpn table 78
ip rule add from all lookup 78 priority 4000
if "$coracle" create cluster --name t-accept-astray >"$directory/said" 2>&1; then
    fail "a cluster that this host cannot reach was made"
fi
told "$directory/said" subnet-clash "default dev vpn table 78" "ip rule add to"
ip rule del priority 4000
[ "$(docker network ls --quiet --filter type=custom | wc --lines)" = 1 ] || fail "a network is left:" "$(docker network ls)"
