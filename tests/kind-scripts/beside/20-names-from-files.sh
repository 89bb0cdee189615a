# The name of a cluster may stand in its file, and several are deleted at once.
unset KIND_CLUSTER_NAME
for number in 1 2; do
    printf 'kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nname: %s-%s\n' "$PREFIX" "$number" >file.yaml
    kind -q create cluster --config file.yaml
done
kind get clusters | grep "^$PREFIX-[12]$"
kubectl config current-context
kind delete clusters "$PREFIX-1" "$PREFIX-2" 2>/dev/null
kind get clusters | grep --count "^$PREFIX-[12]$" || true
kubectl config get-contexts --output=name | grep --count -- "-[12]$" || true
