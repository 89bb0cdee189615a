# Whatever is wrong, the exit code is 1, and nothing is made.
printf 'kind: Cluster\napiVersion: kind.x-k8s.io/v9\n' >wrong.yaml
printf 'kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: worker\n' >no-control-plane.yaml
while read -r words; do
    # shellcheck disable=SC2086 # the words of a command
    kind $words >/dev/null || echo "$words: $?"
done <<END
create
create cluster --nonsense
create cluster --name UPPER
create cluster --config there-is-no-such-file
create cluster --config wrong.yaml
create cluster --config no-control-plane.yaml
get
get nonsense
nonsense
load
load docker-image
load image-archive
delete clusters
export
build
END
kind get clusters | grep "^$KIND_CLUSTER_NAME" || true
