package main

import (
	"reflect"
	"testing"
)

func TestFlagsAreReadInEveryFormThatComponentsTake(t *testing.T) {
	arguments := []string{
		"kube-apiserver", "--secure-port=6443", "--advertise-address", "172.30.0.2", "--etcd_servers=https://127.0.0.1:2379",
		"--permit-port-sharing", "--service-cluster-ip-range=", "-v=2", "--admission=a=b", "--", "--not-a-flag=1",
	}
	wanted := map[string]string{
		"secure-port": "6443", "advertise-address": "172.30.0.2", "etcd-servers": "https://127.0.0.1:2379",
		"permit-port-sharing": "true", "service-cluster-ip-range": "", "v": "2", "admission": "a=b",
	}
	if found := flagsOf(arguments); !reflect.DeepEqual(found, wanted) {
		t.Errorf("%v instead of %v", found, wanted)
	}
}

func TestTheLastOfTwoEqualFlagsCounts(t *testing.T) {
	if found := flagsOf([]string{"--v=1", "--v=2"})["v"]; found != "2" {
		t.Error(found)
	}
}
