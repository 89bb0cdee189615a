package main

import "strings"

// flagsOf reads the flags of a component as the component does: `--name=value`, `--name value`, and `--name` for true. Words
// of a name may be separated by underscores.
func flagsOf(arguments []string) map[string]string {
	flags := map[string]string{}
	for index, argument := range arguments {
		if argument == "--" {
			break
		}
		if !strings.HasPrefix(argument, "-") {
			continue
		}
		name, value, isWhole := strings.Cut(strings.TrimLeft(argument, "-"), "=")
		if !isWhole {
			value = "true"
			if index+1 < len(arguments) && !strings.HasPrefix(arguments[index+1], "-") {
				value = arguments[index+1]
			}
		}
		flags[strings.ReplaceAll(name, "_", "-")] = value
	}
	return flags
}
