package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	_ "k8s.io/kubernetes/pkg/apis/core/install"       // the kinds in the scheme
	_ "k8s.io/kubernetes/pkg/apis/networking/install" // likewise
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"
	netutils "k8s.io/utils/net"
)

// ownService lists the flags with which the API server has another Service `kubernetes`, or stores it in another way.
var ownService = []string{"endpoint-reconciler-type", "kubernetes-service-node-port", "runtime-config"}

// apiService returns the Service `kubernetes` and its address as upstream's controller would create them, or nothing where the
// flags ask for something else.
//
// Every API server of a new cluster creates this Service. Of several that start together, one may find its address taken and
// no Service yet: it says that the Service is invalid, and tries again after 10 s.
func apiService(flags map[string]string) ([]stored, error) {
	for _, name := range ownService {
		if _, found := flags[name]; found {
			return nil, nil
		}
	}
	first, _, _ := strings.Cut(flags["service-cluster-ip-range"], ",")
	_, subnet, err := net.ParseCIDR(first)
	port, noPort := strconv.Atoi(flags["secure-port"])
	if err != nil || noPort != nil {
		return nil, nil // the API server's own defaults
	}
	address, err := netutils.GetIndexedIP(subnet, 1)
	if err != nil {
		return nil, fmt.Errorf("the Service's address: %w", err)
	}
	family := corev1.IPv4Protocol
	if netutils.IsIPv6(address) {
		family = corev1.IPv6Protocol
	}
	service, ip := serviceAt(address.String(), family, port), addressOf(address.String(), family)
	var all encoded
	all.add(corev1.SchemeGroupVersion, "services/specs", &service.ObjectMeta, service)
	all.add(networkingv1.SchemeGroupVersion, "ipaddresses", &ip.ObjectMeta, ip)
	return all.objects, all.failure
}

func serviceAt(address string, family corev1.IPFamily, port int) *corev1.Service {
	policy, traffic := corev1.IPFamilyPolicySingleStack, corev1.ServiceInternalTrafficPolicyCluster
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name:      "kubernetes",
			Namespace: metav1.NamespaceDefault,
			Labels:    map[string]string{"component": "apiserver", "provider": "kubernetes"},
		},
		Spec: corev1.ServiceSpec{
			Ports: []corev1.ServicePort{{
				Name: "https", Protocol: corev1.ProtocolTCP, Port: 443, TargetPort: intstr.FromInt32(int32(port)),
			}},
			ClusterIP:             address,
			ClusterIPs:            []string{address},
			Type:                  corev1.ServiceTypeClusterIP,
			SessionAffinity:       corev1.ServiceAffinityNone,
			IPFamilies:            []corev1.IPFamily{family},
			IPFamilyPolicy:        &policy,
			InternalTrafficPolicy: &traffic,
		},
	}
}

// addressOf returns the object by which the address of a Service is known to be taken.
func addressOf(address string, family corev1.IPFamily) *networkingv1.IPAddress {
	return &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{
			Name: address,
			Labels: map[string]string{
				networkingv1.LabelIPAddressFamily: string(family),
				networkingv1.LabelManagedBy:       ipallocator.ControllerName,
			},
		},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{
			Resource: "services", Namespace: metav1.NamespaceDefault, Name: "kubernetes",
		}},
	}
}
