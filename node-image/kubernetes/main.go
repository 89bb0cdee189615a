// One program for every Kubernetes and etcd component of a node: it runs the one that it was called as.
//
// Linking them together gives one file, and so one page cache, for all processes of all nodes of a machine. The
// components themselves are upstream's, unmodified: each function below is what upstream's own `main` does. Before some of
// them, this program does something that saves the whole cluster a wait; it is never needed, and each says why.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"time"
	_ "time/tzdata" // time zones of CronJobs

	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // the authentication plugins of kubectl
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // version metric
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app"
	kubeadmutil "k8s.io/kubernetes/cmd/kubeadm/app/util/errors"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var programs = map[string]func(){
	"etcd":                    runEtcd,
	"etcdctl":                 func() { ctlv3.MustStart() },
	"kube-apiserver":          runAPIServer,
	"kube-controller-manager": runControllerManager,
	"kube-proxy":              func() { os.Exit(cli.Run(proxy.NewProxyCommand())) },
	"kube-scheduler":          runScheduler,
	"kubeadm":                 func() { kubeadmutil.HandleError(kubeadm.Run()) },
	"kubectl":                 runKubectl,
	"kubelet":                 runKubelet,
}

func main() {
	run, ok := programs[filepath.Base(os.Args[0])]
	if !ok {
		names := make([]string, 0, len(programs))
		for name := range programs {
			names = append(names, name)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "call this program as one of %v\n", names)
		os.Exit(2)
	}
	collectLater()
	wakeTogether()
	run()
}

func runEtcd() {
	electAtOnce(os.Args)
	etcdmain.Main(withUsefulCheck(os.Args))
}

func runAPIServer() {
	skipFirstCollections()
	waitForEtcd(os.Args, 3*time.Second)
	seedRoles(os.Args, 10*time.Second)
	os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
}

func runControllerManager() {
	os.Args = startBeforeHealth(os.Args)
	os.Exit(cli.Run(controllermanager.NewControllerManagerCommand()))
}

func runScheduler() {
	os.Args = startBeforeHealth(os.Args)
	os.Exit(cli.Run(scheduler.NewSchedulerCommand()))
}

func runKubelet() {
	holdCalls()
	os.Args = withAllowedScore(os.Args, "/proc/self/oom_score_adj")
	os.Exit(cli.Run(kubelet.NewKubeletCommand(context.Background())))
}

// runKubectl sets the log verbosity before the command line is parsed, as upstream does, because plugins are looked
// up before that.
func runKubectl() {
	logs.GlogSetter(kubectl.GetLogVerbosity(os.Args)) //nolint:errcheck // upstream ignores it too
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
}
