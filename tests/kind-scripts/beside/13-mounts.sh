# A directory of this host in a pod.
echo "from this host" >shared/file
cat <<END | kubectl apply -f -
apiVersion: v1
kind: Pod
metadata:
  name: mounted
spec:
  nodeName: $KIND_CLUSTER_NAME-worker
  containers:
  - name: c
    image: $IMAGE
    imagePullPolicy: IfNotPresent
    volumeMounts:
    - {name: shared, mountPath: /shared}
  volumes:
  - name: shared
    hostPath: {path: /shared, type: Directory}
END
kubectl wait pod/mounted --for=condition=Ready --timeout=120s
docker exec "$KIND_CLUSTER_NAME-worker" cat /shared/file
docker exec "$KIND_CLUSTER_NAME-worker" sh -c 'echo "from the node" >/shared/back'
cat shared/back
kubectl delete pod mounted --now --wait=false
