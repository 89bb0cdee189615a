# What helm's action for kind does, with the options that it has.
kind create cluster "--name=$KIND_CLUSTER_NAME-charts" --wait=60s --kubeconfig="$PWD/charts" --verbosity=0
export KUBECONFIG=$PWD/charts
kubectl cluster-info >/dev/null && echo "it answers"
kubectl get storageclass --output=name
kind get clusters | grep "^$KIND_CLUSTER_NAME" || true
kind delete cluster "--name=$KIND_CLUSTER_NAME-charts"
kubectl config get-contexts --output=name
