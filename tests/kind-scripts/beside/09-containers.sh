# What tools see of the nodes in the engine.
filter=label=io.x-k8s.kind.cluster=$KIND_CLUSTER_NAME
docker ps --filter "$filter" --format '{{.Names}} {{.Label "io.x-k8s.kind.role"}}' | sort
docker ps --quiet --filter "$filter" --filter label=io.x-k8s.kind.role=worker | wc --lines
for node in $(kind get nodes | sort); do
    docker inspect --format '{{.Config.Hostname}}' "$node"
    address=$(docker inspect --format "{{(index .NetworkSettings.Networks \"$KIND_EXPERIMENTAL_DOCKER_NETWORK\").IPAddress}}" "$node")
    curl --silent --insecure --max-time 10 "https://$address:10250/healthz" >/dev/null && echo "its address answers"
done
docker network inspect "$KIND_EXPERIMENTAL_DOCKER_NETWORK" --format '{{.Driver}} {{len .Containers}}'
docker port "$KIND_CLUSTER_NAME-control-plane" 30080/tcp | sed "s/$NODE_PORT/PORT/" | head -n 1
docker port "$KIND_CLUSTER_NAME-control-plane" 6443/tcp | sed 's/:[0-9]*$/:PORT/'
