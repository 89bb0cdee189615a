# Nothing is left of a deleted cluster, and deleting it again is no failure.
kind delete cluster
kind delete cluster && echo "again"
kind get nodes
kind get clusters | grep "^$KIND_CLUSTER_NAME" || true
docker ps --all --quiet --filter "label=io.x-k8s.kind.cluster=$KIND_CLUSTER_NAME" | wc --lines
docker volume ls --quiet --filter "name=$KIND_CLUSTER_NAME" | wc --lines
kubectl config get-contexts --output=name
kubectl config current-context || echo "no current context"
docker network inspect "$KIND_EXPERIMENTAL_DOCKER_NETWORK" --format '{{len .Containers}}'
