# Before there is a cluster: lists are empty, and what needs a cluster fails.
kind get clusters | grep "^$KIND_CLUSTER_NAME" || true
kind get nodes
kind get nodes --name "$KIND_CLUSTER_NAME" 2>&1
kind get nodes --all-clusters | grep "^$KIND_CLUSTER_NAME" || true
for words in "get kubeconfig" "export kubeconfig" "load docker-image $IMAGE" "export logs there"; do
    # shellcheck disable=SC2086 # the words of a command
    kind $words || echo "$words: $?"
done
kind delete cluster && echo "nothing to delete is no failure"
