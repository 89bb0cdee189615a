# Scripts go over all nodes, and do something in each.
kind get clusters | grep "^$KIND_CLUSTER_NAME" || true
kind get nodes | sort
kind get nodes --name "$KIND_CLUSTER_NAME" | wc --lines
for node in $(kind get nodes | sort); do
    docker exec "$node" hostname
    docker exec "$node" sh -c 'echo hello >/etc/a-file'
    docker exec "$node" cat /etc/a-file
    docker exec "$node" crictl info >/dev/null && echo "crictl works"
done
docker exec "$KIND_CLUSTER_NAME-control-plane" kubectl --kubeconfig=/etc/kubernetes/admin.conf get nodes --output=name
docker cp "$KIND_CLUSTER_NAME-control-plane:/etc/kubernetes/pki/ca.crt" ca.crt
head -n 1 ca.crt
docker exec "$KIND_CLUSTER_NAME-control-plane" ls /etc/kubernetes/manifests
docker exec "$KIND_CLUSTER_NAME-control-plane" systemctl is-active kubelet containerd
