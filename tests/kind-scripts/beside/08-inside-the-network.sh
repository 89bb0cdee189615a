# A container in the nodes' network calls the API.
kind get kubeconfig --internal >internal
kubectl --kubeconfig internal config view --output=jsonpath='{.clusters[0].cluster.server}{"\n"}'
chmod 644 internal
docker run --rm --network "$KIND_EXPERIMENTAL_DOCKER_NETWORK" --volume "$PWD/internal:/kubeconfig:ro" \
    --entrypoint kubectl "$NODE_IMAGE" --kubeconfig /kubeconfig get nodes --output=name
rm internal
