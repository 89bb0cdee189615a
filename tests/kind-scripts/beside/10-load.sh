# Images go into all nodes, into one, and from an archive.
second=${IMAGE%:*}:second
docker tag "$IMAGE" "$second"
kind load docker-image "$IMAGE" "$second"
for node in $(kind get nodes | sort); do
    docker exec "$node" crictl images | grep "${IMAGE%:*} " | awk '{ print $1 }'
done
third=${IMAGE%:*}:third
docker tag "$IMAGE" "$third"
docker save --output image.tar "$third"
docker rmi "$second" "$third" >/dev/null
kind load image-archive image.tar --nodes "$KIND_CLUSTER_NAME-worker"
for node in $(kind get nodes | sort); do
    docker exec "$node" crictl images | grep --count "${IMAGE%:*} *third" || true
done
kind load docker-image there-is-no-such-image || echo "no such image: $?"
kind load docker-image "$IMAGE" --nodes there-is-no-such-node || echo "no such node: $?"
kind load image-archive there-is-no-such-file || echo "no such file: $?"
kubectl run loaded --image "$IMAGE" --image-pull-policy=Never
kubectl wait pod/loaded --for=condition=Ready --timeout=120s
kubectl delete pod loaded --now --wait=false
rm image.tar
