# The names in a kubeconfig, in the user's file and in files of a script's own.
kubectl config current-context
kubectl config get-contexts --no-headers | awk '{ print $2, $3, $4 }'
kind get kubeconfig >own
kubectl --kubeconfig own get nodes --output=name
kubectl --kubeconfig own config view --minify --output=jsonpath='{.clusters[0].name} {.users[0].name} {.contexts[0].name}{"\n"}'
kubectl --kubeconfig own config view --output=jsonpath='{.clusters[0].cluster.server}{"\n"}' | sed 's/:[0-9]*$/:PORT/'
kind export kubeconfig --kubeconfig exported
KUBECONFIG=exported kubectl get nodes --output=name
kubectl config use-context "kind-$KIND_CLUSTER_NAME"
kubectl config unset current-context
kind export kubeconfig
kubectl config current-context
KUBECONFIG=own:exported kubectl config view --output=jsonpath='{.current-context}{"\n"}'
rm own exported
