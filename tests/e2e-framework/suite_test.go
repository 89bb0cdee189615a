// Package suite is a test suite as users of sigs.k8s.io/e2e-framework write it for kind: the framework calls the
// `kind` in PATH, which is a link to coracle here.
package suite

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/e2e-framework/klient/wait"
	"sigs.k8s.io/e2e-framework/klient/wait/conditions"
	"sigs.k8s.io/e2e-framework/pkg/env"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/envfuncs"
	"sigs.k8s.io/e2e-framework/pkg/features"
	"sigs.k8s.io/e2e-framework/support/kind"
)

var (
	environment env.Environment
	cluster     = os.Getenv("CLUSTER")
	image       = os.Getenv("IMAGE")
	logs        = os.Getenv("LOGS")
)

func TestMain(m *testing.M) {
	environment = env.New()
	provider := kind.NewProvider()
	environment.Setup(
		envfuncs.CreateClusterWithConfig(provider, cluster, os.Getenv("CONFIG")),
		envfuncs.CreateNamespace("suite"),
		envfuncs.LoadImageToCluster(cluster, image),
	)
	environment.Finish(
		envfuncs.ExportClusterLogs(cluster, logs),
		envfuncs.DestroyCluster(cluster),
	)
	os.Exit(environment.Run(m))
}

// A pod of the image that was loaded runs, and the framework's client sees it.
func TestPodOfALoadedImage(t *testing.T) {
	feature := features.New("a pod").Assess("is ready", func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
		pod := corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "hello", Namespace: "suite"},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "hello", Image: image, ImagePullPolicy: corev1.PullNever}}},
		}
		if err := config.Client().Resources().Create(ctx, &pod); err != nil {
			t.Fatal(err)
		}
		ready := conditions.New(config.Client().Resources()).PodReady(&pod)
		if err := wait.For(ready, wait.WithTimeout(2*time.Minute)); err != nil {
			t.Fatal(err)
		}
		return ctx
	})
	environment.Test(t, feature.Feature())
}

// The framework uses the context that kind would have made.
func TestContext(t *testing.T) {
	if _, err := os.Stat(filepath.Dir(logs)); err != nil {
		t.Fatal(err)
	}
	if got, want := kind.NewCluster(cluster).GetKubectlContext(), "kind-"+cluster; got != want {
		t.Fatalf("the context is %s, not %s", got, want)
	}
}
