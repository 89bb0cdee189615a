# A second time is refused, and the cluster goes on.
kind create cluster || echo "refused: $?"
kind create cluster 2>&1 | grep --only-matching 'already exist' | head -n 1
kubectl get namespaces --output=name
