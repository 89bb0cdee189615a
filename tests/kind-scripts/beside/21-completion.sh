# The shell's completion is loaded as kind's page says.
# shellcheck disable=SC1090 # what the command prints
source <(kind completion bash) && echo "bash has it"
complete -p kind >/dev/null && echo "for kind"
for shell in zsh fish; do
    [ -n "$(kind completion $shell)" ] && echo "$shell"
done
