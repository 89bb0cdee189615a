#!/usr/bin/env bash
# Docker-in-Docker as GitLab runs it: an engine with TLS on another host, `docker`, whose own 127.0.0.1 no one here reaches.
# Runs in namespaces of its own, with an engine of its own: dind.sh DIRECTORY CORACLE IMAGE
set -euo pipefail
# shellcheck source=tests/cluster/harness/own-engine.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../harness/own-engine.sh"
name=t-accept-dind
certificates=$directory/certificates

# The files of docker:dind: the server's certificate names the host, the client's proves who may use it.
mkdir -p "$certificates/server" "$certificates/client"
make_certificate() {
    openssl req -newkey rsa:2048 -nodes -keyout "$1/key.pem" -out "$1/request.pem" -subj "/CN=$2" 2>/dev/null
    printf '%s\n' "$3" >"$1/extensions"
    openssl x509 -req -in "$1/request.pem" -CA "$certificates/server/ca.pem" -CAkey "$certificates/authority.pem" -CAcreateserial \
        -out "$1/cert.pem" -days 2 -extfile "$1/extensions" 2>/dev/null
}
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$certificates/authority.pem" -out "$certificates/server/ca.pem" -days 2 \
    -subj '/CN=authority' 2>/dev/null
make_certificate "$certificates/server" server 'subjectAltName = DNS:docker'
make_certificate "$certificates/client" client 'extendedKeyUsage = clientAuth'
cp "$certificates/server/ca.pem" "$certificates/client/ca.pem"

# The job's place is another network namespace, where `docker` is the engine's address.
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
ip netns add job
ip link add engine type veth peer name job netns job
ip address add 10.88.0.1/24 dev engine
ip link set engine up
ip -n job address add 10.88.0.2/24 dev job
ip -n job link set job up
ip -n job link set lo up
printf '127.0.0.1 localhost\n10.88.0.1 docker\n' >"$directory/hosts"
mount --bind "$directory/hosts" /etc/hosts
job() {
    ip netns exec job env --unset=DOCKER_HOST DOCKER_HOST=tcp://docker:2376 DOCKER_TLS_VERIFY=1 \
        DOCKER_CERT_PATH="$certificates/client" "$@"
}

clean_up() {
    DOCKER_HOST=$own "$coracle" delete cluster --name "$name" --quiet || true
    stop_engine
}
trap clean_up EXIT
start_engine -H tcp://0.0.0.0:2376 --tlsverify --tlscacert "$certificates/server/ca.pem" \
    --tlscert "$certificates/server/cert.pem" --tlskey "$certificates/server/key.pem"
load_image

# refused ID PART ENVIRONMENT...: the job is told so.
refused() {
    local id=$1 part=$2 code=0
    shift 2
    job "$@" "$coracle" get clusters >"$directory/said" 2>&1 || code=$?
    [ "$code" != 0 ] || fail "not refused: $*"
    told "$directory/said" "$id" "$part"
}
refused engine-unreachable 'it speaks TLS: set `DOCKER_TLS_VERIFY=1`' env --unset=DOCKER_TLS_VERIFY
refused engine-unreachable 'must be those of this engine and name its host' env DOCKER_HOST=tcp://10.88.0.1:2376
refused engine-unreachable 'docker -H tcp://docker:2375 info' env DOCKER_HOST=tcp://docker
refused file-failed ca.pem env DOCKER_CERT_PATH=/nowhere
mkdir "$certificates/nobody"
cp "$certificates/client/ca.pem" "$certificates/nobody"
refused engine-unreachable 'certificates in' env DOCKER_CERT_PATH="$certificates/nobody"
# Without a look at the engine's certificate, any name will do.
job env --unset=DOCKER_TLS_VERIFY DOCKER_TLS=1 DOCKER_HOST=tcp://10.88.0.1:2376 "$coracle" get clusters

# A context brings its certificates along.
job env --unset=DOCKER_HOST --unset=DOCKER_TLS_VERIFY docker context create far --docker \
    "host=tcp://docker:2376,ca=$certificates/client/ca.pem,cert=$certificates/client/cert.pem,key=$certificates/client/key.pem" >/dev/null
job env --unset=DOCKER_HOST --unset=DOCKER_TLS_VERIFY --unset=DOCKER_CERT_PATH DOCKER_CONTEXT=far "$coracle" get clusters


echo "a cluster is reached through the engine's host"
printf '%s\n' 'apiVersion: coracle.dev/v1alpha1' 'kind: Cluster' 'nodes:' '- role: control-plane' '  extraPortMappings:' \
    '  - {containerPort: 30080, hostPort: 8080, listenAddress: 0.0.0.0}' >"$directory/cluster.yaml"
job "$coracle" create cluster --name "$name" --config "$directory/cluster.yaml" 2>&1 | tee "$directory/said"
grep --quiet 'listens on all addresses of `docker`' "$directory/said" || fail "nothing is said about the address"
kubectl() { job timeout 60 "$coracle" kubectl --name "$name" "$@"; }
server=$(kubectl config view --output=jsonpath='{.clusters[0].cluster.server}')
[[ $server == https://docker:* ]] || fail "the API server is at $server"
kubectl wait --for=condition=Ready node --all --timeout=25s
job "$coracle" status --name "$name"
# The metrics of CoreDNS: the only page that a new cluster has.
kubectl expose deployment coredns --namespace=kube-system --name=web --port=80 --target-port=9153 --type=NodePort \
    --overrides='{"spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 9153, "nodePort": 30080}]}}'
url=$(job "$coracle" url web --name "$name" --namespace kube-system --wait 60s) || fail "there is no URL"
[ "$url" = http://docker:8080 ] || fail "the URL is $url"
# A command's input and output pass through TLS, and so does the end of the input.
tar --directory "$directory" --create cluster.yaml | job docker import - t-accept-dind:1 >/dev/null
job "$coracle" load docker-image t-accept-dind:1 --name "$name"
images=$(job "$coracle" image ls --name "$name")
[[ $images == *t-accept-dind* ]] || fail "the image did not arrive"
job "$coracle" delete cluster --name "$name"

echo "the job of docs/guides/ci.md for GitLab"
job env CI=true GITLAB_CI=true "$coracle" run --name "$name" --junit "$directory/junit.xml" --logs "$directory/logs" -- \
    "$coracle" kubectl get nodes --output=name >"$directory/said" 2>&1
grep --quiet "^node/$name-control-plane$" "$directory/said" || fail "the command of \`run\` did not see the node"
grep --quiet 'section_start:' "$directory/said" || fail "the output is not folded for GitLab"
grep --quiet '<testcase ' "$directory/junit.xml" || fail "there are no JUnit results"
[ -z "$(job "$coracle" get clusters --output name)" ] || fail "the cluster of \`run\` is left"
