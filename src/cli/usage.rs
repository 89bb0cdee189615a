//! What other tools' users type: understood where its meaning is certain, else answered with coracle's spelling.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use crate::cli::output::OutputFormat;
use crate::config::ClusterName;
use crate::error::{Code, Error};
use crate::ui::{Format, Ui, UiOptions};

/// The variable with the name of coracle's clusters.
pub(super) const NAME: &str = "CORACLE_CLUSTER_NAME";
/// What k3d's `cluster edit --port-add` is called.
const ADD_PORT: &str = "to add a port to a running cluster, run `coracle port add 8080:30080`";
/// Its counterpart for kind.
const KIND_NAME: &str = "KIND_CLUSTER_NAME";

/// kind's verbosity, `-v 1`, as coracle's `-v`; what is kubectl's stays.
pub(super) fn with_verbosity(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words = arguments.into_iter().peekable();
    let mut all: Vec<OsString> = words.next().into_iter().collect();
    let mut has_command = false;
    while let Some(word) = words.next() {
        let text = word.to_str().unwrap_or_default();
        let is_command = !has_command && !text.starts_with('-');
        has_command |= is_command;
        if text == "--" || (is_command && text == "kubectl") {
            all.push(word);
            all.extend(words);
            break;
        }
        let level = if ["-v", "--verbose", "--verbosity"].contains(&text) {
            words.next_if(|next| next.to_str().and_then(digit).is_some()).and_then(|next| digit(next.to_str()?))
        } else {
            ["-v=", "-v", "--verbose=", "--verbosity="].iter().find_map(|option| digit(text.strip_prefix(option)?))
        };
        match level {
            Some(level) => all.extend(std::iter::repeat_n(OsString::from("-v"), level)),
            None => all.push(word),
        }
    }
    all
}

fn digit(text: &str) -> Option<usize> {
    let only = text.chars().next().filter(|_| text.len() == 1)?;
    usize::try_from(only.to_digit(10)?).ok()
}

/// Says why a command line cannot be used, or prints help, and returns the exit code.
pub(super) fn refuse(mut error: clap::Error, arguments: &[OsString], grammar: &Command) -> ExitCode {
    if error.get(ContextKind::Suggested).is_none()
        && error.get(ContextKind::SuggestedSubcommand).is_none()
        && error.get(ContextKind::SuggestedArg).is_none()
        && let Some(spelling) = spelling(&error, arguments, grammar)
    {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(spelling)]));
    }
    // Help and version are no mistakes; clap prints each to the right stream.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    if wants_events(arguments, grammar) {
        let text = error.render().to_string();
        let line = text.lines().next().unwrap_or_default();
        let ui = Ui::new(UiOptions { format: Format::Json, ..UiOptions::from_env() });
        ui.error_event(&Error::new(Code::UsageInvalid, line.strip_prefix("error: ").unwrap_or(line)));
    }
    ExitCode::from(Code::UsageInvalid.exit_code())
}

/// The right spelling of what was typed.
fn spelling(error: &clap::Error, arguments: &[OsString], grammar: &Command) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let (path, leaf) = command(arguments, grammar);
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let word = text(ContextKind::InvalidArg).filter(|word| !word.starts_with('-'))?;
            match &path[..] {
                ["delete", "cluster"] => {
                    Some("to delete several clusters, run `coracle delete clusters NAME…`".to_owned())
                }
                [verb] if VERBS.contains(verb) => {
                    Some(format!("`coracle {verb}` takes one cluster, or all of them with `--all`"))
                }
                _ if has_name(leaf) => Some(format!("name the cluster with `--name {word}`")),
                _ => None,
            }
        }
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand)?;
            match (&path[..], word.as_str()) {
                // k3d has the verb after the noun, as here with what comes next.
                ([], "cluster") if verb_after(arguments, "cluster").is_some() => {
                    let (verb, name) = verb_after(arguments, "cluster")?;
                    Some(format!("did you mean `{}`?", format!("coracle {verb} {name}").trim_end()))
                }
                ([], "ssh" | "exec" | "attach") => Some("to open a shell in a node, run `coracle shell NODE`".to_owned()),
                ([], "suspend" | "freeze") => Some("to freeze a cluster, run `coracle pause`".to_owned()),
                ([], "resume" | "thaw") => Some("to resume a paused cluster, run `coracle unpause`".to_owned()),
                ([], "halt" | "shutdown") => Some("to stop a cluster, run `coracle stop`".to_owned()),
                ([verb @ ("create" | "delete")], _) => {
                    Some(format!("did you mean `coracle {verb} cluster {word}`?"))
                }
                (["node"], "edit") => Some(ADD_PORT.to_owned()),
                ([], "cluster") if arguments.iter().any(|word| word == "edit") => Some(ADD_PORT.to_owned()),
                ([], "up" | "cluster" | "new") => Some("to create a cluster, run `coracle create cluster`".to_owned()),
                ([], "down" | "destroy" | "rm" | "remove") => {
                    Some("to delete a cluster, run `coracle delete cluster`".to_owned())
                }
                ([], "service" | "svc") => {
                    Some("to print the URLs of a Service, run `coracle url NAME`; to open a port, `coracle port add 8080:svc/NAME:80`".to_owned())
                }
                ([], "ls" | "list") => Some("to list the clusters, run `coracle get clusters`".to_owned()),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Verbs of a whole cluster that stand alone.
const VERBS: [&str; 5] = ["stop", "start", "restart", "pause", "unpause"];

/// The verb and the name after `noun`, as other tools have them: `cluster stop dev`.
fn verb_after<'a>(arguments: &'a [OsString], noun: &str) -> Option<(&'a str, &'a str)> {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let at = words.iter().position(|word| *word == noun)?;
    let verb = words.get(at + 1).filter(|verb| VERBS.contains(verb))?;
    Some((verb, words.get(at + 2).copied().unwrap_or_default()))
}

/// `stop cluster dev`, as it follows from `delete cluster dev`, as `stop dev`.
pub(super) fn without_noun(mut words: Vec<OsString>) -> Vec<OsString> {
    let is_option = |word: &OsString| word.to_str().is_some_and(|word| word.starts_with('-'));
    let Some(verb) = (1..words.len()).find(|at| !is_option(&words[*at])) else { return words };
    let is_verb = words[verb].to_str().is_some_and(|word| VERBS.contains(&word));
    if is_verb && words.get(verb + 1).is_some_and(|noun| noun == "cluster") {
        words.remove(verb + 1);
    }
    words
}

/// The command that was typed, as far as it is one.
fn command<'a>(arguments: &'a [OsString], grammar: &'a Command) -> (Vec<&'a str>, &'a Command) {
    let (mut path, mut leaf) = (Vec::new(), grammar);
    for word in arguments.iter().skip(1).filter_map(|word| word.to_str()).filter(|word| !word.starts_with('-')) {
        let Some(found) = leaf.find_subcommand(word) else { break };
        path.push(word);
        leaf = found;
    }
    (path, leaf)
}

/// Whether the command is about a cluster.
fn has_name(leaf: &Command) -> bool {
    leaf.get_arguments().any(|argument| argument.get_env() == Some(OsStr::new(NAME)))
}

/// Whether the command writes events, and they were asked for.
fn wants_events(arguments: &[OsString], grammar: &Command) -> bool {
    let (_, leaf) = command(arguments, grammar);
    let output = leaf.get_arguments().find(|argument| argument.get_id() == "output");
    let formats: Vec<_> = output.map(clap::Arg::get_possible_values).unwrap_or_default();
    let events = formats.iter().any(|format| format.get_name() == "json");
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let asked = words.windows(2).any(|pair| ["-o", "--output"].contains(&pair[0]) && pair[1] == "json")
        || words.iter().any(|word| ["-ojson", "-o=json", "--output=json"].contains(word));
    events && asked
}

/// Whether the command prints JSON.
pub(super) fn wants_json(mut matches: &ArgMatches) -> bool {
    while let Some((_, inner)) = matches.subcommand() {
        matches = inner;
    }
    let format = matches.try_get_one::<OutputFormat>("output").ok().flatten();
    let word = matches.try_get_one::<String>("output").ok().flatten();
    format.is_some_and(|format| *format == OutputFormat::Json) || word.is_some_and(|word| word == "json")
}

/// The warning that kind's variable names another cluster than the one that the command is about.
pub(super) fn ignored_name(matches: &ArgMatches, grammar: &Command, kind: Option<&str>) -> Option<String> {
    let (mut leaf, mut matches) = (grammar, matches);
    while let Some((name, inner)) = matches.subcommand() {
        (leaf, matches) = (leaf.find_subcommand(name)?, inner);
    }
    let given = |id: &str| {
        let source = matches.try_contains_id(id).is_ok_and(|known| known).then(|| matches.value_source(id)).flatten();
        let text = matches.try_get_one::<String>(id).ok().flatten();
        source.is_some_and(|source| source != ValueSource::DefaultValue) && text.is_none_or(|text| !text.is_empty())
    };
    let all = matches.try_get_one::<bool>("all").ok().flatten().copied().unwrap_or_default();
    // A configuration file may have the name.
    let elsewhere = ["name", "positional"].into_iter().any(given)
        || all
        || matches.try_contains_id("config").is_ok_and(|given| given);
    if elsewhere || !has_name(leaf) { None } else { other_name(kind) }
}

/// The warning for a command that is about the default cluster.
pub(super) fn other_name(kind: Option<&str>) -> Option<String> {
    let kind = kind.filter(|name| !name.is_empty() && *name != ClusterName::DEFAULT)?;
    Some(format!(
        "{KIND_NAME} is `{kind}`, but coracle does not read it, and uses cluster `{}`; set {NAME}, or use `--name {kind}`",
        ClusterName::DEFAULT
    ))
}

/// The value of kind's variable.
pub(super) fn kind_name() -> Option<String> {
    std::env::var(KIND_NAME).ok()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Arguments;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_verbs_of_a_whole_cluster_are_those_of_the_grammar() {
        let grammar = Arguments::command();
        let has = |command: &Command, id: &str| command.get_arguments().any(|argument| argument.get_id() == id);
        let is_verb = |command: &&Command| has(command, "positional") && has(command, "all");
        let mut verbs: Vec<&str> = grammar.get_subcommands().filter(is_verb).map(Command::get_name).collect();
        let mut known = VERBS.to_vec();
        verbs.sort_unstable();
        known.sort_unstable();
        assert_eq!(verbs, known);
    }

    #[test]
    fn kinds_verbosity_is_understood() {
        let read = |line: &str| {
            let words = with_verbosity(words(line));
            words.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(read("coracle create cluster -v 1"), "coracle create cluster -v");
        assert_eq!(read("coracle -v 3 get nodes"), "coracle -v -v -v get nodes");
        assert_eq!(read("coracle create cluster -v=2 --name a"), "coracle create cluster -v -v --name a");
        assert_eq!(read("coracle create cluster -v0 --verbosity 1"), "coracle create cluster -v");
        assert_eq!(read("coracle -v 1 kubectl -v 6 get pods"), "coracle -v kubectl -v 6 get pods");
        for same in ["coracle -vv get nodes", "coracle create cluster -v", "coracle -v delete clusters 12", "coracle"] {
            assert_eq!(read(same), same);
        }
    }

    #[test]
    fn a_noun_after_a_verb_that_needs_none_is_understood() {
        let read = |line: &str| {
            let words = without_noun(words(line));
            words.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(read("coracle -v stop cluster dev"), "coracle -v stop dev");
        assert_eq!(read("coracle start cluster"), "coracle start");
        for same in ["coracle delete cluster dev", "coracle stop dev", "coracle stop", "coracle kubectl stop cluster"] {
            assert_eq!(read(same), same);
        }
    }

    #[test]
    fn a_wrong_spelling_is_answered_with_the_right_one() {
        let grammar = Arguments::command();
        let answer = |line: &str| {
            let error = grammar.clone().try_get_matches_from(words(line)).unwrap_err();
            spelling(&error, &words(line), &grammar)
        };
        for (line, part) in [
            ("coracle status dev", "--name dev"),
            ("coracle get nodes dev", "--name dev"),
            ("coracle delete cluster a b", "coracle delete clusters"),
            ("coracle create dev", "coracle create cluster dev"),
            ("coracle delete dev", "coracle delete cluster dev"),
            ("coracle cluster create dev", "coracle create cluster"),
            ("coracle up", "coracle create cluster"),
            ("coracle cluster stop dev", "`coracle stop dev`"),
            ("coracle cluster start", "`coracle start`"),
            ("coracle resume", "coracle unpause"),
            ("coracle stop a b", "--all"),
            ("coracle down", "coracle delete cluster"),
            ("coracle list", "coracle get clusters"),
            ("coracle service hello", "coracle url NAME"),
            ("coracle cluster edit dev --port-add 8080:80", "coracle port add"),
            ("coracle node edit dev-worker --port-add 8080:80", "coracle port add"),
        ] {
            assert!(answer(line).is_some_and(|answer| answer.contains(part)), "{line}: {:?}", answer(line));
        }
        assert_eq!(answer("coracle version dev"), None);
    }

    #[test]
    fn the_name_that_only_kind_reads_is_not_ignored_silently() {
        let grammar = Arguments::command();
        let warning = |line: &str, kind| {
            let matches = grammar.clone().try_get_matches_from(words(line)).unwrap();
            ignored_name(&matches, &grammar, Some(kind))
        };
        for line in ["coracle delete cluster", "coracle create cluster", "coracle status", "coracle kubectl"] {
            assert!(warning(line, "ci").is_some_and(|text| text.contains("--name ci")), "{line}");
            assert_eq!(warning(line, "coracle"), None, "{line}");
            assert_eq!(warning(line, ""), None, "{line}");
        }
        for line in [
            "coracle delete cluster --name a",
            "coracle delete cluster a",
            "coracle delete cluster --all",
            "coracle create cluster --config a.yaml",
            "coracle get clusters",
            "coracle registry create",
            "coracle delete clusters a",
        ] {
            assert_eq!(warning(line, "ci"), None, "{line}");
        }
    }

    #[test]
    fn mistakes_are_events_where_events_were_asked_for() {
        let grammar = Arguments::command();
        for line in [
            "coracle create cluster -o json --x",
            "coracle load docker-image --output=json",
            "coracle get nodes -o json --x",
        ] {
            assert!(wants_events(&words(line), &grammar), "{line}");
        }
        for line in ["coracle create cluster --x", "coracle get nodes -o yaml --x", "coracle x -o json"] {
            assert!(!wants_events(&words(line), &grammar), "{line}");
        }
    }
}
