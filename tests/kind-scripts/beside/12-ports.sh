# A port of the node on this host.
kubectl create deployment web --image "$IMAGE"
kubectl set env deployment/web NAME=scripts
kubectl create service nodeport web --tcp=8080:8080 --node-port=30080
kubectl rollout status deployment/web --timeout=180s >/dev/null
for _ in $(seq 60); do
    if answer=$(curl --silent --fail --max-time 5 "http://localhost:$NODE_PORT/"); then break; fi
    sleep 1
done
[ -n "$answer" ] && echo "it answers"
kubectl delete deployment/web service/web
