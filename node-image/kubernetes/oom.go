package main

import (
	"os"
	"strings"
)

// kubeletScore is the kubelet's default, by which the kernel ends nearly everything else first when memory is short.
const kubeletScore = "-999"

// withAllowedScore returns the arguments of the kubelet, with the score that it has where it may not have a lower one: without
// CAP_SYS_RESOURCE, it would try twice, and pause for 100 ms each time, before it does anything else.
func withAllowedScore(arguments []string, score string) []string {
	flags := flagsOf(arguments)
	config, err := os.ReadFile(flags["config"])
	if _, isSet := flags["oom-score-adj"]; err != nil || isSet || strings.Contains("\n"+string(config), "\noomScoreAdj:") {
		return arguments
	}
	current, err := os.ReadFile(score)
	if err != nil || os.WriteFile(score, []byte(kubeletScore), 0) == nil {
		return arguments
	}
	return append(arguments, "--oom-score-adj="+strings.TrimSpace(string(current)))
}
