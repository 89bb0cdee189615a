# Prints what is seen in a node; `facts.rs` reads it. $1 is the ID of the node's container.
part() { printf '\n\001%s\n' "$1"; }
kubelet() { journalctl --unit=kubelet --no-pager --output=cat "$@"; }

part disk
stat --file-system --format='%f %S' /var
part clock
begins=$(openssl x509 -noout -startdate -in /var/lib/kubelet/pki/kubelet.crt 2>/dev/null | cut -d= -f2)
if [ -n "$begins" ] && [ "$(date -d "$begins" +%s)" -gt "$(date +%s)" ]; then
  echo "they begin at $begins, and its clock says $(date -u '+%b %e %H:%M:%S %Y %Z')"
fi
part restarts
restarts=$(systemctl show kubelet --property=NRestarts --value)
echo "$restarts"
well=yes
if [ "${restarts:-0}" -gt 0 ]; then
  curl --silent --fail --output /dev/null --max-time 2 http://127.0.0.1:10248/healthz || well=no
fi
part well
echo $well
# What a limit of a pod's own has ended is no matter of the node.
part killed
dmesg 2>/dev/null | grep "oom-kill:.*task_memcg=[^,]*$1" | grep -e "oom_memcg=[^,]*$1\(\.scope\)\{0,1\}," -e global_oom
part listeners
ss --listening --tcp --numeric --processes --no-header
# Without a kubelet there is nothing else, and a look should cost little.
[ $well = yes ] || exit 0
part pull
kubelet --lines=1 --grep='ImagePullBackOff.* pod="(kube-system/(etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kube-proxy|coracle-agent|coredns)|local-path-storage/local-path-provisioner)-'
part signs
# What is over is no sign.
signs=$(kubelet --since=-90s --lines=40 --grep='NetworkPluginNotReady|Eviction manager: attempting to reclaim|https://.*(proxyconnect|no route to host|network is unreachable|certificate has expired or is not yet valid)')
case $signs in
*'no route to host'* | *'network is unreachable'*)
  server=$(sed -n 's/^ *server: *//p' /etc/kubernetes/kubelet.conf)
  # A way that is there by now is no sign either.
  curl --silent --insecure --output /dev/null --max-time 2 "$server/livez" && signs=$(printf '%s\n' "$signs" | grep -v -e 'no route' -e 'network is un')
  ;;
esac
printf '%s\n' "$signs" | grep -v NetworkPluginNotReady
part network
case $signs in
*NetworkPluginNotReady*) crictl info 2>/dev/null | grep -o '"lastCNILoadStatus": ".*"' ;;
esac
part containers
crictl ps --all --output=json
exit 0
