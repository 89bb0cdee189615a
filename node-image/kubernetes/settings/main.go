// What can be set in one version of Kubernetes: the fields of the configuration files, the flags of the control plane and
// the feature gates, with the first sentence of their documentation.
//
// It runs while a node image is built, in a module that requires this version, and uses only Go's own packages: the fields
// come from upstream's sources, the flags from the built program itself, and so nothing of Kubernetes is compiled for it.
//
//	settings PROGRAM VERSION DIRECTORY
//
// It writes settings.json, and settings.label: the same without documentation, compressed, for the label of the image.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Setting is a field or a flag.
type Setting struct {
	Type string `json:"type"`
	Doc  string `json:"doc,omitempty"`
}

// Settings is everything that can be set.
//
// The type of a field is a word such as string, boolean or int32; []X is a list and {}X a mapping of X, and #X is the
// structure X of Types. The type of a flag is pflag's, as in the component's own help; it is empty for a hidden flag.
type Settings struct {
	Kubernetes string                        `json:"kubernetes"`
	Documents  map[string]string             `json:"documents"`
	Types      map[string]map[string]Setting `json:"types"`
	Flags      map[string]map[string]Setting `json:"flags"`
	Gates      []string                      `json:"featureGates"`
}

// documents are the configuration files: the structure of each, and the package that has it. They are read in this order,
// which decides the names of structures that are called alike.
var documents = [][2]string{
	{"KubeletConfiguration", "k8s.io/kubelet/config/v1beta1"},
	{"KubeProxyConfiguration", "k8s.io/kube-proxy/config/v1alpha1"},
}

func main() {
	if len(os.Args) != 4 {
		fail(fmt.Errorf("usage: settings PROGRAM VERSION DIRECTORY"))
	}
	settings, err := collect(os.Args[1], os.Args[2])
	if err != nil {
		fail(err)
	}
	if err := save(settings, os.Args[3]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func collect(program, version string) (*Settings, error) {
	settings := &Settings{Kubernetes: version, Documents: map[string]string{}, Flags: map[string]map[string]Setting{}}
	sources := newSources()
	for _, document := range documents {
		expression, err := sources.named(document[1], document[0])
		if err != nil {
			return nil, err
		}
		settings.Documents[document[0]] = expression
	}
	settings.Types = sources.types
	for name, arguments := range components {
		flags, err := flagsOf(program, name, arguments)
		if err != nil {
			return nil, err
		}
		settings.Flags[name] = flags
	}
	flags, err := flagsOfEtcd(sources)
	if err != nil {
		return nil, err
	}
	settings.Flags["etcd"] = flags
	settings.Gates, err = featureGates(program)
	return settings, err
}

// save writes both forms; maps are written in the order of their keys, so the same settings give the same bytes.
func save(settings *Settings, directory string) error {
	full, err := json.MarshalIndent(settings, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(directory, "settings.json"), append(full, '\n'), 0o644); err != nil {
		return err
	}
	short, err := json.Marshal(map[string]any{
		"kubernetes":   settings.Kubernetes,
		"documents":    settings.Documents,
		"types":        withoutDocs(settings.Types),
		"flags":        withoutDocs(settings.Flags),
		"featureGates": settings.Gates,
	})
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	writer, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := writer.Write(short); err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return err
	}
	label := base64.StdEncoding.EncodeToString(packed.Bytes())
	return os.WriteFile(filepath.Join(directory, "settings.label"), []byte(label), 0o644)
}

func withoutDocs(groups map[string]map[string]Setting) map[string]map[string]string {
	all := map[string]map[string]string{}
	for group, settings := range groups {
		all[group] = map[string]string{}
		for name, setting := range settings {
			all[group][name] = setting.Type
		}
	}
	return all
}

// sentence is the first sentence of a comment or a usage text, on one line and without markers such as +optional.
func sentence(text string) string {
	var words []string
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" && len(words) > 0 {
			break
		}
		if !strings.HasPrefix(line, "+") {
			words = append(words, strings.Fields(line)...)
		}
	}
	for index, word := range words {
		// "e.g." and "i.e." end no sentence.
		if strings.HasSuffix(word, ".") && !strings.Contains(strings.TrimSuffix(word, "."), ".") {
			return strings.Join(words[:index+1], " ")
		}
	}
	return strings.Join(words, " ")
}
