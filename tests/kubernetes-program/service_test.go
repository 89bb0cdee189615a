package main

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

func TestTheServiceOfTheAPIHasTheFirstAddress(t *testing.T) {
	for subnets, want := range map[string]struct{ address, family string }{
		"10.96.0.0/16":                  {"10.96.0.1", "IPv4"},
		"fd00:10:96::/112,10.96.0.0/16": {"fd00:10:96::1", "IPv6"},
		"10.0.4.0/22,fd00:10:96::/112":  {"10.0.4.1", "IPv4"},
	} {
		objects, err := apiService(map[string]string{"service-cluster-ip-range": subnets, "secure-port": "6443"})
		if err != nil || len(objects) != 2 {
			t.Fatal(subnets, objects, err)
		}
		if objects[1].key != "/registry/ipaddresses/"+want.address {
			t.Error(objects[1].key)
		}
		decoded, err := runtime.Decode(legacyscheme.Codecs.UniversalDecoder(corev1.SchemeGroupVersion), []byte(objects[0].value))
		if err != nil {
			t.Fatal(err)
		}
		spec := decoded.(*corev1.Service).Spec
		if spec.ClusterIP != want.address || string(spec.IPFamilies[0]) != want.family || spec.Ports[0].TargetPort.IntVal != 6443 {
			t.Error(spec)
		}
	}
}

func TestAnUnusualServiceIsLeftToTheAPIServer(t *testing.T) {
	for _, flags := range []map[string]string{
		{},
		{"service-cluster-ip-range": "10.96.0.0/16"},
		{"service-cluster-ip-range": "many", "secure-port": "6443"},
		{"service-cluster-ip-range": "10.96.0.0/16", "secure-port": "6443", "kubernetes-service-node-port": "30443"},
		{"service-cluster-ip-range": "10.96.0.0/16", "secure-port": "6443", "runtime-config": "networking.k8s.io/v1=false"},
	} {
		if objects, err := apiService(flags); err != nil || len(objects) > 0 {
			t.Error(flags, objects, err)
		}
	}
}

func TestTheServiceIsWrittenOnce(t *testing.T) {
	flags := map[string]string{"service-cluster-ip-range": "10.96.0.0/16", "secure-port": "6443"}
	address, client := etcd(t, map[string]string{"/registry/ipaddresses/10.96.0.1": "mine"})
	flags["etcd-servers"] = address
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	service, err := apiService(flags)
	if err != nil {
		t.Fatal(err)
	}
	for _, objects := range [][]stored{service, service[:1]} {
		if _, err := seed(ctx, flags, nil, objects); err != nil {
			t.Fatal(err)
		}
	}
	for key, want := range map[string]string{"/registry/ipaddresses/10.96.0.1": "mine", service[0].key: "k8s\x00"} {
		found, err := client.Get(ctx, key)
		if err != nil || len(found.Kvs) != 1 || !strings.HasPrefix(string(found.Kvs[0].Value), want) {
			t.Error(key, found, err)
		}
		if want != "mine" && found.Kvs[0].Version != 1 {
			t.Error(key, "was written again")
		}
	}
}
