# A node is drained, and its container stopped and started.
kubectl create deployment moved --image "$IMAGE" --replicas=2
kubectl rollout status deployment/moved --timeout=180s >/dev/null
kubectl drain "$KIND_CLUSTER_NAME-worker" --ignore-daemonsets --delete-emptydir-data --timeout=120s >/dev/null && echo "drained"
kubectl uncordon "$KIND_CLUSTER_NAME-worker"
docker stop "$KIND_CLUSTER_NAME-worker" >/dev/null
docker start "$KIND_CLUSTER_NAME-worker" >/dev/null
for _ in $(seq 120); do
    if docker exec "$KIND_CLUSTER_NAME-worker" cat /etc/a-file; then break; fi
    sleep 1
done
sleep 5
kubectl wait node --all --for=condition=Ready --timeout=120s | sort
kubectl rollout status deployment/moved --timeout=180s >/dev/null && echo "its pods run"
kubectl delete deployment moved
