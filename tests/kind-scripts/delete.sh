kind delete cluster
kind delete cluster
[ -z "$(kind get nodes)" ]
[ -z "$(docker ps --all --quiet --filter "label=io.x-k8s.kind.cluster=$KIND_CLUSTER_NAME")" ]
