#!/bin/bash
# Ends this node when its cluster's time is over, or no one has used the cluster's API for long enough. With the exit code 0
# the engine does not start it again. Whatever cannot be read is no reason to end.
#
# IDLE_STOP, INTERVAL: seconds without use, and between two looks. CONTROL_PLANE: whether this node is one.
set -o nounset

readonly RUN=/run/coracle-lifetime
# What asks the API though no one uses the cluster, by the flow schemas of API Priority and Fairness.
readonly OWN='^(exempt|probes|system-nodes|system-node-high|system-leader-election|workload-leader-election|endpoint-controller|kube-controller-manager|kube-scheduler|kube-system-service-accounts|coracle-own)$'

# Ends the node, and this script with it.
end() {
  echo "coracle: $1; this node stops"
  systemctl --no-block exit 0
  sleep infinity
}

over() {
  local end=
  read -r end _ 2>/dev/null </etc/coracle/expires
  [[ $end =~ ^[0-9]+$ ]] && (($(printf '%(%s)T' -1) >= end))
}

# Seconds since the machine booted: they do not jump with its clock.
uptime() {
  local seconds
  read -r seconds _ </proc/uptime
  echo "${seconds%.*}"
}

api() { curl --silent --fail --max-time 10 --cacert /etc/kubernetes/pki/ca.crt "$@"; }

# As the administrator of the node, whose requests are `exempt`: asking is no use.
as_admin() { api --cert $RUN/admin.pem --key $RUN/admin.pem "$@"; }

as_node() {
  local pem=/var/lib/kubelet/pki/kubelet-client-current.pem
  api --cert $pem --key $pem "$@"
}

server() { sed -n 's/^ *server: *//p' /etc/kubernetes/kubelet.conf; }

# The API servers of all control planes.
servers() {
  as_admin "$(server)/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes" |
    tr -d ' \n' | grep -o '"addresses":\["[^"]*"' | cut -d '"' -f 4 |
    sed 's/.*:.*/[&]/; s,^,https://,; s,$,:6443,'
}

# Prints how many connections programs outside the cluster have to this API server, such as those of a watch: they come
# through the gateway. Those through a load balancer cannot be told from the nodes' own.
outside() {
  local gateways peer through count=0
  gateways=" $( (ip route show default; ip -6 route show default) | awk '$2 == "via" { printf "%s ", $3 }')"
  for peer in $(ss -Htn state established '( sport = :6443 )' | awk '{ print $NF }' |
    sed 's/:[0-9]*$//; s/[][]//g; s/^::ffff://' | sort -u); do
    through=$(ip route get "$peer" 2>/dev/null | sed -n '1s/.* via \([^ ]*\).*/\1/p')
    [[ $gateways == *" ${through:-$peer} "* ]] && ((count += 1))
  done
  echo "$count"
}

# Prints a sum that grows with every request of users, and how many of their connections are open. Fails if it is not known.
use() {
  local one all="" found
  found=$(servers)
  [[ -n $found ]] || return 1
  for one in $found; do
    one=$(as_admin "$one/metrics" | grep -E '^apiserver_(flowcontrol_dispatched_requests_total|longrunning_requests)\{') || return 1
    all+=$one$'\n'
  done
  awk -v own="$OWN" -v open="$(outside)" '
    function label(name,  rest) {
      rest = $0
      if (!sub(".*[{,]" name "=\"", "", rest)) return ""
      sub("\".*", "", rest)
      return rest
    }
    /^apiserver_flowcontrol/ { known = 1; if (label("flow_schema") !~ own) total += $NF }
    /^apiserver_longrunning/ && label("subresource") ~ /^(exec|attach|portforward|log|proxy)$/ { open += $NF }
    END { if (!known) exit 1; printf "%.0f %.0f\n", total, open }' <<<"$all"
}

# The mark by which a control plane tells all nodes that they stop: an annotation that they may read. Fails if it is not known.
mark() {
  local service
  service=$(as_node "$(server)/api/v1/namespaces/default/services/kubernetes") || return 1
  tr -d ' \n' <<<"$service" | grep -o '"dev.coracle.idle-stop":"[^"]*"'
  return 0
}

set_mark() {
  as_admin --output /dev/null --request PATCH --header 'Content-Type: application/merge-patch+json' \
    --data "{\"metadata\":{\"annotations\":{\"dev.coracle.idle-stop\":\"$(printf '%(%Y-%m-%dT%H:%M:%SZ)T' -1)\"}}}" \
    "$(server)/api/v1/namespaces/default/services/kubernetes"
}

# Whether this node is the only one.
alone() {
  [[ $(as_admin "$(server)/api/v1/nodes?limit=2" | grep -o '"machineID"' | wc -l) == 1 ]]
}

prepare() {
  local part
  [[ $CONTROL_PLANE == yes ]] || return
  for part in certificate key; do
    sed -n "s/^ *client-$part-data: *//p" /etc/kubernetes/super-admin.conf | base64 -d
  done >$RUN/admin.pem
}

# The longest creation of a cluster, and how long workers at least wait for an API server that does not answer.
readonly CREATION=900
started=$(uptime)
looked=$started used=$started answered=$started first="" last=""

# Looks whether the cluster is used, and ends the node if it was not for long enough.
look() {
  local now seen marked
  now=$(uptime)
  # The machine slept, or the node was paused: no one could use it.
  ((now - looked > 3 * INTERVAL + 60)) && used=$now answered=$now
  looked=$now
  # Who creates a cluster wants to use it.
  [[ ! -e /etc/coracle/finished ]] && ((now - started < CREATION)) && used=$now
  if marked=$(mark); then
    answered=$now
    # A mark from before this node booted says nothing about now.
    first=${first:-"had:$marked"}
    if [[ "had:$marked" != "$first" ]]; then
      # The other nodes read the mark too.
      [[ $CONTROL_PLANE == yes ]] && ! alone && sleep $((INTERVAL + 10))
      end "nobody used the cluster for $IDLE_STOP s"
    fi
  elif [[ $CONTROL_PLANE == no ]] && ((now - answered >= IDLE_STOP && now - answered >= CREATION)); then
    end "the API server has not answered for $((now - answered)) s"
  fi
  [[ $CONTROL_PLANE == yes ]] || return
  if ! seen=$(use) || [[ $seen != "$last" || $seen != *" 0" ]]; then
    used=$now last=${seen:-}
  elif ((now - used >= IDLE_STOP)); then
    set_mark
  fi
}

if [[ ${1:-} == once ]]; then
  over && end "the cluster's time is over"
  exit 0
fi
[[ -n ${IDLE_STOP:-} ]] && prepare
next=$(uptime)
while true; do
  over && end "the cluster's time is over"
  if [[ -n ${IDLE_STOP:-} ]] && (($(uptime) >= next)); then
    look
    next=$(($(uptime) + INTERVAL))
  fi
  sleep 5
done
