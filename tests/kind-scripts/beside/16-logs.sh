# The logs of all nodes, in the places where scripts look.
kind export logs logs >/dev/null
find logs -maxdepth 1 -mindepth 1 -name "$KIND_CLUSTER_NAME-*" -printf '%y %P\n' | sort
for node in $(kind get nodes | sort); do
    for file in inspect.json journal.log kubelet.log containerd.log images.log kubernetes-version.txt serial.log pods containers; do
        if [ -e "logs/$node/$file" ]; then echo "$node/$file"; fi
    done
done
sed 's/+.*//' "logs/$KIND_CLUSTER_NAME-control-plane/kubernetes-version.txt"
[ "$(find "logs/$KIND_CLUSTER_NAME-control-plane/pods" -path '*kube-system_etcd*' -name '*.log' | wc --lines)" != 0 ] && echo "etcd's log"
directory=$(kind export logs)
[ -d "$directory/$KIND_CLUSTER_NAME-worker" ] && echo "a directory of its own"
rm -r logs "$directory"
