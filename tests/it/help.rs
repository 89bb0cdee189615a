//! The help text of every command.

use clap::CommandFactory;
use coracle::cli::Arguments;

use crate::command_line::coracle;

/// Every command as its words: `[]`, `["create"]`, `["create", "cluster"]`, …
fn commands() -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut open = vec![(Vec::new(), Arguments::command())];
    while let Some((words, command)) = open.pop() {
        for child in command.get_subcommands() {
            let mut words: Vec<String> = words.clone();
            words.push(child.get_name().to_owned());
            all.push(words.clone());
            open.push((words, child.clone()));
        }
    }
    all.sort();
    all
}

#[test]
fn the_help_of_every_command_is_as_recorded() {
    for words in commands() {
        // `coracle kubectl --help` is kubectl's own.
        let mut arguments = vec!["help".to_owned()];
        arguments.extend(words.iter().cloned());
        let said = coracle(&arguments);
        assert_eq!(said.code, 0, "{words:?}: {}", said.stderr);
        assert_eq!(said.stderr, "", "{words:?}");
        let name = if words.is_empty() { "coracle".to_owned() } else { words.join("_") };
        insta::assert_snapshot!(name, said.stdout);
    }
}

#[test]
fn every_command_has_a_first_line_and_every_option_a_meaning() {
    for words in commands() {
        let mut command = Arguments::command();
        for word in &words {
            command = command.find_subcommand(word).unwrap().clone();
        }
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(!about.is_empty() && !about.ends_with('.'), "{words:?}: {about:?}");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{words:?}: `{}` has no help", argument.get_id());
        }
    }
}

#[test]
fn help_of_a_command_is_the_same_both_ways() {
    let one = coracle(["create", "cluster", "--help"]);
    let other = coracle(["help", "create", "cluster"]);
    assert_eq!(one.stdout, other.stdout);
    assert_eq!(one.code, 0);
}
