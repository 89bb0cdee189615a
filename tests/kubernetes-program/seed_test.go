package main

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
)

var usual = []string{"kube-apiserver", "--etcd-servers=http://127.0.0.1:1", "--authorization-mode=Node,RBAC"}

func TestRolesAreWrittenOnlyWhereTheyAreTheUsualOnes(t *testing.T) {
	if !isUsual(flagsOf(usual)) {
		t.Error("these flags are those of every cluster")
	}
	for _, flag := range []string{
		"--encryption-provider-config=/etc/encryption.yaml", "--feature-gates=A=true", "--etcd-prefix=/other",
		"--storage-media-type=application/json", "--emulated-version=1.35", "--authorization-mode=AlwaysAllow",
		"--authorization-mode=Node", "--encryption_provider_config=/etc/encryption.yaml", "--etcd-servers=",
	} {
		if isUsual(flagsOf(append(usual[:len(usual):len(usual)], flag))) {
			t.Error(flag)
		}
	}
	if isUsual(flagsOf(append(usual[:len(usual):len(usual)], "--encryption-provider-config", "/etc/encryption.yaml"))) {
		t.Error("a value may be an argument of its own")
	}
}

// etcd starts a lone member with these objects, and returns its address and a client.
func etcd(t *testing.T, there map[string]string) (string, *clientv3.Client) {
	t.Helper()
	at := func() url.URL { return url.URL{Scheme: "http", Host: "127.0.0.1:" + freePort(t)} }
	config := embed.NewConfig()
	config.Dir = t.TempDir()
	config.LogLevel = "fatal"
	config.UnsafeNoFsync = true
	config.ListenClientUrls = []url.URL{at()}
	config.AdvertiseClientUrls = config.ListenClientUrls
	config.ListenPeerUrls = []url.URL{at()}
	config.AdvertisePeerUrls = config.ListenPeerUrls
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	member, err := embed.StartEtcd(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(member.Close)
	select {
	case <-member.Server.ReadyNotify():
	case <-time.After(30 * time.Second):
		t.Fatal("etcd does not start")
	}
	address := config.ListenClientUrls[0].String()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	for key, value := range there {
		if _, err := client.Put(context.Background(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	return address, client
}

func write(t *testing.T, address string) int {
	t.Helper()
	roles, err := bootstrapRoles()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	accounts, err := controllerAccounts()
	if err != nil {
		t.Fatal(err)
	}
	written, err := seed(ctx, map[string]string{"etcd-servers": address}, roles, accounts)
	if err != nil {
		t.Fatal(err)
	}
	return written
}

func TestAnEmptyEtcdGetsEveryRoleOnce(t *testing.T) {
	roles, err := bootstrapRoles()
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for _, role := range roles {
		// What the API server stores begins so.
		if !strings.HasPrefix(role.value, "k8s\x00") {
			t.Errorf("%s is not in protobuf", role.key)
		}
		keys[role.key] = true
	}
	if len(keys) != len(roles) || len(keys) < 100 || !keys["/registry/clusterroles/cluster-admin"] ||
		!keys["/registry/rolebindings/kube-system/system::leader-locking-kube-scheduler"] {
		t.Errorf("%d objects, %d keys", len(roles), len(keys))
	}
	address, client := etcd(t, nil)
	if written := write(t, address); written != len(roles) {
		t.Errorf("wrote %d of %d", written, len(roles))
	}
	if written := write(t, address); written != 0 {
		t.Errorf("wrote %d again", written)
	}
	count := func(prefix string) int {
		found, err := client.Get(context.Background(), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		return int(found.Count)
	}
	accounts := count("/registry/serviceaccounts/kube-system/")
	if all := count(storage); all != len(roles)+accounts || accounts < 30 {
		t.Errorf("%d objects, of which %d are accounts", all, accounts)
	}
	for _, name := range []string{"service-controller", "route-controller"} {
		if count("/registry/serviceaccounts/kube-system/"+name) != 0 {
			t.Errorf("%s does not run without a cloud", name)
		}
	}
}

func TestNothingIsWrittenOverWhatIsThere(t *testing.T) {
	address, _ := etcd(t, map[string]string{"/registry/clusterroles/mine": "mine"})
	if written := write(t, address); written != 0 {
		t.Errorf("wrote %d beside a role", written)
	}
	binding := "/registry/clusterrolebindings/cluster-admin"
	address, client := etcd(t, map[string]string{binding: "mine"})
	write(t, address)
	found, err := client.Get(context.Background(), binding)
	if err != nil || string(found.Kvs[0].Value) != "mine" {
		t.Error(found, err)
	}
}
