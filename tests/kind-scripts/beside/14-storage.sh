# The default StorageClass gives a volume as soon as a pod wants it.
kubectl get storageclass --output=jsonpath='{range .items[*]}{.metadata.name} {.metadata.annotations.storageclass\.kubernetes\.io/is-default-class} {.reclaimPolicy} {.volumeBindingMode}{"\n"}{end}'
cat <<END | kubectl apply -f -
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: data
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
---
apiVersion: v1
kind: Pod
metadata:
  name: stored
spec:
  containers:
  - name: c
    image: $IMAGE
    imagePullPolicy: IfNotPresent
    volumeMounts: [{name: data, mountPath: /data}]
  volumes:
  - name: data
    persistentVolumeClaim: {claimName: data}
END
kubectl wait pod/stored --for=condition=Ready --timeout=180s
kubectl get pvc data --output=jsonpath='{.status.phase} {.spec.storageClassName}{"\n"}'
volume=$(kubectl get pvc data --output=jsonpath='{.spec.volumeName}')
kubectl delete pod/stored pvc/data --grace-period=1
kubectl wait --for=delete "pv/$volume" --timeout=120s >/dev/null && echo "the volume is gone"
