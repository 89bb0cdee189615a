second=${IMAGE%:*}:second
docker tag "$IMAGE" "$second"
kind load docker-image "$IMAGE" "$second"
for node in $(kind get nodes); do
    docker exec "$node" crictl images | grep "${IMAGE%:*} *second" >/dev/null
done
docker save --output image.tar "$second"
docker rmi "$second" >/dev/null
kind load image-archive image.tar --nodes "$KIND_CLUSTER_NAME-worker"
code=0
kind load docker-image there-is-no-such-image || code=$?
[ "$code" = 1 ]
