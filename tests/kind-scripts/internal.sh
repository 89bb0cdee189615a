# A container that is only in the network of the nodes calls the API.
kind get kubeconfig --internal >internal
chmod 644 internal
for _ in $(seq 60); do
    if nodes=$(docker run --rm --network "$KIND_EXPERIMENTAL_DOCKER_NETWORK" --volume "$PWD/internal:/kubeconfig:ro" \
        --entrypoint kubectl "$IMAGE" --kubeconfig /kubeconfig get nodes --output name); then
        break
    fi
    sleep 1
done
rm internal
grep --quiet "$KIND_CLUSTER_NAME-worker" <<<"$nodes"
