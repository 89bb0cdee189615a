package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/rbac/install" // the kinds in that scheme
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

const (
	// storage is where the API server keeps its objects in etcd, unless it is told otherwise.
	storage = "/registry/"
	// maxOperations is less than the 128 operations that etcd takes in one transaction.
	maxOperations = 100
)

// otherwise lists the flags with which the API server stores other roles, or stores them in another way. With any of them,
// it makes its roles itself.
var otherwise = []string{
	"authorization-config", "emulated-version", "emulation-forward-compatible", "encryption-provider-config", "etcd-prefix",
	"etcd-servers-overrides", "feature-gates", "min-compatibility-version", "storage-media-type",
}

// notByDefault are the controllers that have roles, but run only with a cloud provider or a flag.
var notByDefault = map[string]bool{"route-controller": true, "selinux-warning-controller": true, "service-controller": true}

// seedRoles writes upstream's own bootstrap roles and bindings into an etcd that has none, while the API server starts.
//
// The API server writes the same roles, one after the other, and only a second after it serves; until then, it forbids the
// scheduler and the controllers everything, who try again after pauses that grow. Upstream's hook still runs, and finds all
// in order. Nothing is ever written over what is there, and a failure is no harm: the hook then makes what is missing.
func seedRoles(arguments []string, patience time.Duration) {
	flags := flagsOf(arguments)
	if !isUsual(flags) {
		return
	}
	// Before the API server reads its flags, which change what bootstrappolicy returns.
	roles, err := bootstrapRoles()
	if err != nil {
		fmt.Fprintf(os.Stderr, "coracle: the API server makes its roles itself: %v\n", err)
		return
	}
	service, err := apiService(flags)
	if err != nil {
		fmt.Fprintf(os.Stderr, "coracle: the API server makes its Service itself: %v\n", err)
	}
	accounts, err := controllerAccounts()
	if err != nil {
		fmt.Fprintf(os.Stderr, "coracle: the controller manager makes its ServiceAccounts itself: %v\n", err)
	}
	go func() {
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if count, err := seed(ctx, flags, roles, append(service, accounts...)); err != nil {
			fmt.Fprintf(os.Stderr, "coracle: the API server makes its roles itself: %v\n", err)
		} else if count > 0 {
			fmt.Fprintf(os.Stderr, "coracle: wrote %d roles and bindings in %v\n", count, time.Since(began).Round(time.Millisecond))
		}
	}()
}

// isUsual tells whether an API server with these flags stores the roles that bootstrappolicy has by default.
func isUsual(flags map[string]string) bool {
	for _, name := range otherwise {
		if _, found := flags[name]; found {
			return false
		}
	}
	for _, mode := range strings.Split(flags["authorization-mode"], ",") {
		if mode == "RBAC" {
			return flags["etcd-servers"] != ""
		}
	}
	return false
}

// seed writes the roles and the other objects if there are no roles, and returns how many roles it wrote.
func seed(ctx context.Context, flags map[string]string, roles, others []stored) (int, error) {
	info := transport.TLSInfo{
		CertFile: flags["etcd-certfile"], KeyFile: flags["etcd-keyfile"], TrustedCAFile: flags["etcd-cafile"],
	}
	config, err := info.ClientConfig()
	if err != nil {
		return 0, err
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(flags["etcd-servers"], ","), TLS: config, Context: ctx})
	if err != nil {
		return 0, err
	}
	defer client.Close()
	there, err := client.Get(ctx, storage+"clusterroles/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || there.Count > 0 {
		return 0, err
	}
	if _, err := create(ctx, client, others); err != nil {
		return 0, err
	}
	written := 0
	for len(roles) > 0 {
		next := roles[:min(len(roles), maxOperations)]
		roles = roles[len(next):]
		count, err := create(ctx, client, next)
		if err != nil {
			return written, err
		}
		written += count
	}
	return written, nil
}

// create writes all of these objects if none of them is there, and returns how many it wrote.
func create(ctx context.Context, client *clientv3.Client, objects []stored) (int, error) {
	var absent []clientv3.Cmp
	var puts []clientv3.Op
	for _, object := range objects {
		absent = append(absent, clientv3.Compare(clientv3.CreateRevision(object.key), "=", 0))
		puts = append(puts, clientv3.OpPut(object.key, object.value))
	}
	answer, err := client.Txn(ctx).If(absent...).Then(puts...).Commit()
	if err != nil || !answer.Succeeded {
		return 0, err
	}
	return len(puts), nil
}

// stored is an object as the API server keeps it in etcd.
type stored struct{ key, value string }

// encoded collects objects as the API server keeps them.
type encoded struct {
	objects []stored
	failure error
}

func (e *encoded) add(version schema.GroupVersion, resource string, meta *metav1.ObjectMeta, object runtime.Object) {
	serializer, found := runtime.SerializerInfoForMediaType(legacyscheme.Codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	if !found {
		e.failure = fmt.Errorf("no protobuf")
		return
	}
	meta.UID = uuid.NewUUID()
	meta.CreationTimestamp = metav1.Now()
	value, err := runtime.Encode(legacyscheme.Codecs.EncoderForVersion(serializer.Serializer, version), object)
	if err != nil {
		e.failure = fmt.Errorf("%s %s: %w", resource, meta.Name, err)
		return
	}
	key := storage + resource + "/"
	if meta.Namespace != "" {
		key += meta.Namespace + "/"
	}
	e.objects = append(e.objects, stored{key + meta.Name, string(value)})
}

// bootstrapRoles returns what upstream's hook `rbac/bootstrap-roles` would create.
func bootstrapRoles() ([]stored, error) {
	var all encoded
	add := func(resource string, meta *metav1.ObjectMeta, object runtime.Object) {
		all.add(rbacv1.SchemeGroupVersion, resource, meta, object)
	}
	for _, role := range append(bootstrappolicy.ClusterRoles(), bootstrappolicy.ControllerRoles()...) {
		add("clusterroles", &role.ObjectMeta, &role)
	}
	for _, binding := range append(bootstrappolicy.ClusterRoleBindings(), bootstrappolicy.ControllerRoleBindings()...) {
		add("clusterrolebindings", &binding.ObjectMeta, &binding)
	}
	for namespace, roles := range bootstrappolicy.NamespaceRoles() {
		for _, role := range roles {
			role.Namespace = namespace
			add("roles", &role.ObjectMeta, &role)
		}
	}
	for namespace, bindings := range bootstrappolicy.NamespaceRoleBindings() {
		for _, binding := range bindings {
			binding.Namespace = namespace
			add("rolebindings", &binding.ObjectMeta, &binding)
		}
	}
	return all.objects, all.failure
}

// controllerAccounts returns the ServiceAccounts of the controllers that run by default. The controller manager looks for each when
// it starts, one after the other, and makes those that are missing.
func controllerAccounts() ([]stored, error) {
	var all encoded
	for _, binding := range bootstrappolicy.ControllerRoleBindings() {
		for _, subject := range binding.Subjects {
			if subject.Kind != rbacv1.ServiceAccountKind || subject.Namespace != metav1.NamespaceSystem || notByDefault[subject.Name] {
				continue
			}
			account := corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: subject.Name, Namespace: subject.Namespace}}
			all.add(corev1.SchemeGroupVersion, "serviceaccounts", &account.ObjectMeta, &account)
		}
	}
	return all.objects, all.failure
}
