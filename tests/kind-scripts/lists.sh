# Every line on standard output is a name.
kind get clusters | grep --line-regexp "$KIND_CLUSTER_NAME" >/dev/null
wanted=$(printf '%s\n' "$KIND_CLUSTER_NAME-control-plane" "$KIND_CLUSTER_NAME-worker")
[ "${WORKERS:-1}" = 1 ] || wanted+=$'\n'$KIND_CLUSTER_NAME-worker2
[ "$(kind get nodes | sort)" = "$wanted" ]
[ "$(kind get nodes --name "$KIND_CLUSTER_NAME" | sort)" = "$wanted" ]
kind get nodes --all-clusters | grep --line-regexp "$KIND_CLUSTER_NAME-worker" >/dev/null
kind get kubeconfig | grep "^current-context: kind-$KIND_CLUSTER_NAME$" >/dev/null
kind version | grep --extended-regexp '^kind v[0-9]+\.[0-9]+\.[0-9]+ ' >/dev/null
[[ $(kind version -q) =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]]
logs=$(kind export logs)
[ -d "$logs/$KIND_CLUSTER_NAME-control-plane" ]
rm -r "$logs"
kind export kubeconfig --kubeconfig exported
KUBECONFIG=exported kubectl get nodes >/dev/null
rm exported
