# A second cluster with a file of its own, and its end.
second=$KIND_CLUSTER_NAME-second
kind create cluster --name "$second" --kubeconfig "$PWD/second"
kind get clusters | grep "^$KIND_CLUSTER_NAME" || true
kubectl config current-context
KUBECONFIG=second kubectl config current-context
KUBECONFIG=second kubectl get nodes --output=name
kind get nodes --all-clusters | grep "^$KIND_CLUSTER_NAME" | sort
kind get nodes --name "$second"
docker network inspect "$KIND_EXPERIMENTAL_DOCKER_NETWORK" --format '{{len .Containers}}'
kind delete cluster --name "$second" --kubeconfig "$PWD/second"
kind get clusters | grep "^$KIND_CLUSTER_NAME" || true
KUBECONFIG=second kubectl config get-contexts --output=name
kubectl get nodes --output=name
