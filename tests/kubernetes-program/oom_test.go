package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestTheKubeletDoesNotAskForAScoreThatItCannotHave(t *testing.T) {
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const refused = "/proc/sys/kernel/ostype" // it can be read, and not written
	usual := []string{"kubelet", "--config=" + file("kind: KubeletConfiguration\n")}
	want := append(slices.Clone(usual), "--oom-score-adj=Linux")
	if after := withAllowedScore(slices.Clone(usual), refused); !slices.Equal(after, want) {
		t.Error(after)
	}
	allowed := file("0\n")
	for name, it := range map[string]struct {
		arguments []string
		score     string
	}{
		"allowed":               {usual, allowed},
		"no such file":          {usual, "/nowhere"},
		"set in a file":         {[]string{"kubelet", "--config=" + file("a: b\noomScoreAdj: 5\n")}, refused},
		"set by a flag":         {append(slices.Clone(usual), "--oom-score-adj=5"), refused},
		"asked for its version": {[]string{"kubelet", "--version"}, refused},
	} {
		if after := withAllowedScore(slices.Clone(it.arguments), it.score); !slices.Equal(after, it.arguments) {
			t.Errorf("%s: %v", name, after)
		}
	}
	if set, err := os.ReadFile(allowed); err != nil || string(set) != kubeletScore {
		t.Error(string(set), err)
	}
}
