# The steps of kind's page about a local registry: what is pushed to localhost is what pods get.
directory=/etc/containerd/certs.d/localhost:$REGISTRY_PORT
for node in $(kind get nodes); do
    docker exec "$node" mkdir -p "$directory"
    cat <<END | docker exec -i "$node" cp /dev/stdin "$directory/hosts.toml"
[host."http://$REGISTRY:5000"]
END
done
if [ "$(docker inspect --format "{{json (index .NetworkSettings.Networks \"$KIND_EXPERIMENTAL_DOCKER_NETWORK\")}}" "$REGISTRY")" = null ]; then
    docker network connect "$KIND_EXPERIMENTAL_DOCKER_NETWORK" "$REGISTRY"
fi
cat <<END | kubectl apply -f -
apiVersion: v1
kind: ConfigMap
metadata:
  name: local-registry-hosting
  namespace: kube-public
data:
  localRegistryHosting.v1: |
    host: "localhost:$REGISTRY_PORT"
END
printf 'FROM %s\nLABEL pushed=yes\n' "$IMAGE" | docker build --quiet --tag "localhost:$REGISTRY_PORT/hello:1" - >/dev/null
docker push --quiet "localhost:$REGISTRY_PORT/hello:1" >/dev/null
kubectl create deployment pushed --image "localhost:$REGISTRY_PORT/hello:1" --replicas=2
kubectl rollout status deployment/pushed --timeout=180s >/dev/null && echo "it runs"
kubectl delete deployment pushed
docker rmi "localhost:$REGISTRY_PORT/hello:1" >/dev/null
