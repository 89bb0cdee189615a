# What scripts wait for, read and restart in kube-system.
kubectl wait --namespace=kube-system --for=condition=Ready pod --all --timeout=180s >/dev/null && echo "all are ready"
kubectl get pods --namespace=kube-system --selector=tier=control-plane --output=name | sort
for component in etcd kube-apiserver kube-controller-manager kube-scheduler; do
    kubectl get pods --namespace=kube-system --selector=component=$component --output=name
done
kubectl get pods --namespace=kube-system --selector=k8s-app=kube-dns --output=name | sed 's,/coredns-.*,/coredns,' | sort --unique
kubectl get pods --namespace=kube-system --selector=k8s-app=kube-proxy --output=name | wc --lines
kubectl get pods --namespace=kube-system --selector=app=kindnet --output=name | wc --lines
kubectl get daemonsets --namespace=kube-system --output=name | grep kube-proxy
kubectl get service --namespace=kube-system kube-dns --output=jsonpath='{.spec.clusterIP} {.spec.ports[*].name}{"\n"}'
kubectl rollout restart deployment/coredns --namespace=kube-system
kubectl rollout status deployment/coredns --namespace=kube-system --timeout=180s >/dev/null && echo "DNS is restarted"
kubectl get configmap --namespace=kube-system coredns --output=jsonpath='{.data.Corefile}' | head -n 1
kubectl get configmap --namespace=kube-system kube-proxy --output=jsonpath='{.data.config\.conf}' | grep '^mode:\|^kind:'
kubectl get configmap --namespace=kube-system kubeadm-config kubelet-config --output=name
kubectl get configmap --namespace=kube-public cluster-info --output=name
kubectl get --raw=/readyz
echo
kubectl auth can-i '*' '*'
