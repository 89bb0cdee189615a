# A registry that runs already, as $REGISTRY and at localhost:$PORT, becomes one that nodes know by the second name.
directory=/etc/containerd/certs.d/localhost:$PORT
for node in $(kind get nodes); do
    docker exec "$node" mkdir -p "$directory"
    printf '[host."http://%s:5000"]\n' "$REGISTRY" | docker exec --interactive "$node" cp /dev/stdin "$directory/hosts.toml"
done
network=$KIND_EXPERIMENTAL_DOCKER_NETWORK
if [ "$(docker inspect --format "{{json (index .NetworkSettings.Networks \"$network\")}}" "$REGISTRY")" = null ]; then
    docker network connect "$network" "$REGISTRY"
fi
kubectl apply --filename - <<END
apiVersion: v1
kind: ConfigMap
metadata:
  name: local-registry-hosting
  namespace: kube-public
data:
  localRegistryHosting.v1: |
    host: "localhost:$PORT"
    help: "https://kind.sigs.k8s.io/docs/user/local-registry/"
END
