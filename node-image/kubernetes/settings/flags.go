package main

import (
	"bytes"
	"context"
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// components are those of which the flags are asked, and what makes each end right after it has named its flags: the help
// leaves out hidden and deprecated ones, but with -v=1 a component logs every flag that it has before it uses any.
var components = map[string][]string{
	"kube-apiserver":          {"--etcd-servers="},
	"kube-controller-manager": {"--kubeconfig=/nonexistent"},
	"kube-scheduler":          {"--config=/nonexistent"},
	"kubelet":                 {"--kubeconfig=/nonexistent"},
}

var (
	helpLine = regexp.MustCompile(`^ +(?:-\w, )?--([\w.-]+)(?: (\S+))?(?:  +(.*))?$`)
	logLine  = regexp.MustCompile(`FLAG: --([\w.-]+)=`)
	gate     = regexp.MustCompile(`(?m)^\s*(?:const\s+)?(\w+)(\s+(?:\w+\.)?Feature)?\s*=\s*"(\w+)"`)
	gateHelp = regexp.MustCompile(`(\w+)=true\|false \(`)
)

// flagsOf asks a component for its flags.
func flagsOf(program, name string, arguments []string) (map[string]Setting, error) {
	help, err := call(program, name, "--help")
	if err != nil {
		return nil, err
	}
	flags := map[string]Setting{}
	for _, line := range strings.Split(help, "\n") {
		if parts := helpLine.FindStringSubmatch(line); parts != nil {
			flags[parts[1]] = Setting{Type: typeOf(parts[2]), Doc: sentence(parts[3])}
		}
	}
	said, _ := call(program, name, append(arguments, "-v=1")...) // that it fails is wanted
	logged := logLine.FindAllStringSubmatch(said, -1)
	for _, parts := range logged {
		if _, ok := flags[parts[1]]; !ok {
			flags[parts[1]] = Setting{}
		}
	}
	// Both lists have to be there: half of one would make good flags unknown.
	if len(flags) < 40 || len(logged) < 40 {
		return nil, fmt.Errorf("%s names only %d flags in its help and %d in its log", name, len(flags), len(logged))
	}
	return flags, nil
}

// typeOf is the type of a flag that has this word behind it in the help.
func typeOf(word string) string {
	word, _, _ = strings.Cut(word, "[=")
	if word == "" {
		return "bool" // the only type that pflag leaves out
	}
	return word
}

// call runs a component in a directory of its own, in which it may leave certificates, and not for long.
func call(program, name string, arguments ...string) (string, error) {
	// Not in the system's temporary directory: whatever ends this program, the build removes where it runs.
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	directory, err := os.MkdirTemp(here, "run")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(directory)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, program)
	command.Args = append([]string{name}, arguments...)
	if arguments[0] != "--help" {
		switch name {
		case "kube-apiserver":
			command.Args = append(command.Args, "--cert-dir="+directory)
		case "kubelet":
			command.Args = append(command.Args, "--cert-dir="+directory, "--root-dir="+directory)
		}
	}
	command.Dir = directory
	said, err := command.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return string(said), err
}

// flagsOfEtcd reads etcd's flags from the only two functions that define them: its help is written by hand.
func flagsOfEtcd(sources *sources) (map[string]Setting, error) {
	flags := map[string]Setting{}
	for _, path := range []string{"go.etcd.io/etcd/server/v3/embed", "go.etcd.io/etcd/server/v3/etcdmain"} {
		opened, err := sources.open(path)
		if err != nil {
			return nil, err
		}
		for _, file := range opened.files {
			ast.Inspect(file, func(node ast.Node) bool {
				if call, ok := node.(*ast.CallExpr); ok {
					if name, setting, ok := etcdFlag(call); ok {
						flags[name] = setting
					}
				}
				return true
			})
		}
	}
	// Defined by the feature gates themselves, under a name that is a constant.
	flags["feature-gates"] = Setting{Type: "string", Doc: "Feature gates of etcd itself, such as A=true,B=false."}
	if len(flags) < 40 {
		return nil, fmt.Errorf("only %d flags of etcd were found", len(flags))
	}
	return flags, nil
}

// etcdFlag is the flag that a call such as fs.BoolVar(&to, "name", false, "usage") defines.
func etcdFlag(call *ast.CallExpr) (string, Setting, bool) {
	function, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) < 3 {
		return "", Setting{}, false
	}
	receiver, ok := function.X.(*ast.Ident)
	kind, isFlag := strings.CutSuffix(function.Sel.Name, "Var")
	name, named := literal(call.Args[1])
	if !ok || receiver.Name != "fs" || !isFlag || !named {
		return "", Setting{}, false
	}
	usage, _ := literal(call.Args[len(call.Args)-1])
	// Values with a type of their own: some are lists, and all of those are joined with commas.
	kind = strings.ToLower(kind)
	if kind == "" {
		kind = "string"
	}
	return name, Setting{Type: kind, Doc: sentence(usage)}, true
}

func literal(expression ast.Expr) (string, bool) {
	text, ok := expression.(*ast.BasicLit)
	if !ok || text.Kind != token.STRING {
		return "", false
	}
	value, err := strconv.Unquote(text.Value)
	return value, err == nil
}

// featureGates are the gates in the sources of the control plane and of the node: the help leaves out those that are stable.
//
// Those in the help must all be among them: if a version defines its gates in another way, nothing good becomes unknown.
func featureGates(program string) ([]string, error) {
	arguments := []string{"list", "-deps", "-f", "{{if not .Standard}}{{.Dir}}{{end}}"}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"} {
		arguments = append(arguments, "k8s.io/kubernetes/cmd/"+name+"/app")
	}
	said, err := exec.Command("go", arguments...).Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w%s", err, stderr(err))
	}
	found := map[string]bool{}
	for _, directory := range strings.Fields(string(said)) {
		if !strings.Contains(directory, "/k8s.io/") {
			continue
		}
		files, err := filepath.Glob(filepath.Join(directory, "*.go"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			if strings.HasSuffix(file, "_test.go") || !bytes.Contains(text, []byte("Feature")) {
				continue
			}
			for _, parts := range gate.FindAllSubmatch(text, -1) {
				// Some lack the type; they are called like their gate, and only in a package of gates.
				untyped := filepath.Base(directory) == "features" && bytes.Equal(parts[1], parts[3])
				if len(parts[2]) > 0 || untyped {
					found[string(parts[3])] = true
				}
			}
		}
	}
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	help, err := call(program, "kube-apiserver", "--help")
	if err != nil {
		return nil, err
	}
	for _, parts := range gateHelp.FindAllStringSubmatch(help, -1) {
		if !found[parts[1]] {
			return nil, fmt.Errorf("the feature gate %s is in the help and was not found in the sources", parts[1])
		}
	}
	return names, nil
}
