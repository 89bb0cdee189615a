//! The documentation: its examples load, its commands parse, its links lead somewhere.

use clap::Parser;
use coracle::cli::Arguments;
use coracle::config::{Overrides, load};

use crate::sources::{files, read, root};

/// A fenced block: where it starts, its language, its lines.
struct Block {
    place: String,
    language: String,
    lines: Vec<String>,
}

fn pages() -> Vec<String> {
    files(".", ".md")
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for page in pages() {
        let mut open: Option<Block> = None;
        for (index, line) in read(&page).lines().enumerate() {
            match (&mut open, line.trim_start().strip_prefix("```")) {
                (None, Some(language)) => {
                    let place = format!("{page}:{}", index + 1);
                    open = Some(Block { place, language: language.trim().to_owned(), lines: Vec::new() });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => block.lines.push(line.to_owned()),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{page}: a block is not closed");
    }
    blocks
}

#[test]
fn every_cluster_in_the_documentation_loads() {
    let mut seen = 0;
    for block in blocks().iter().filter(|block| block.language == "yaml") {
        let text = block.lines.join("\n");
        if !block.lines.iter().any(|line| line == "kind: Cluster") {
            continue;
        }
        let overrides = Overrides { base_directory: Some(root().join("configs")), ..Overrides::default() };
        if let Err(error) = load(&text, &block.place, &overrides) {
            panic!("{}: {error}: {:#?}", block.place, error.problems());
        }
        seen += 1;
    }
    assert!(seen > 0);
}

/// The words of each coracle command in a line of shell, without comments; quotes are kept together.
fn commands(line: &str) -> Vec<Vec<String>> {
    let line = line.trim_start().trim_start_matches("$ ");
    let mut words: Vec<String> = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, '#') if words.last().is_some_and(String::is_empty) => break,
            (None, ' ') => words.push(String::new()),
            (None, '|' | ';' | '&' | '(' | ')') => words.extend([c.to_string(), String::new()]),
            _ => {
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    words.retain(|word| !word.is_empty());
    let parts = words.split(|word| ["|", ";", "&", "(", ")", "&&"].contains(&word.as_str()));
    parts
        .map(|part| part.iter().skip_while(|word| is_assignment(word) || *word == "time").cloned().collect::<Vec<_>>())
        .filter(|part: &Vec<String>| part.first().is_some_and(|word| word == "coracle"))
        // Redirections are the shell's.
        .map(|part| {
            part.into_iter().take_while(|word| !word.starts_with(['<', '>']) && !word.starts_with("2>")).collect()
        })
        .collect()
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
}

#[test]
fn every_command_in_the_documentation_parses() {
    let mut seen = 0;
    for block in blocks().iter().filter(|block| ["sh", "bash", "console"].contains(&block.language.as_str())) {
        for line in &block.lines {
            // In a console block, lines without a prompt are output.
            if block.language == "console" && !line.trim_start().starts_with("$ ") {
                continue;
            }
            for words in commands(line) {
                seen += 1;
                if let Err(error) = Arguments::try_parse_from(&words) {
                    assert!(!error.use_stderr(), "{}: `{line}`: {error}", block.place);
                }
            }
        }
    }
    assert!(seen > 0);
}

/// Whether a command is wrong, and not only shorter than one that can be run: prose leaves out arguments.
fn is_wrong(error: &clap::Error) -> bool {
    use clap::error::ErrorKind;
    matches!(error.kind(), ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument)
}

#[test]
fn every_command_in_a_sentence_exists() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for page in pages() {
        let text = read(&page);
        let mut fenced = false;
        for (index, line) in text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            // A span with a choice or something left out is a pattern; `COMMAND` stands for any command.
            let is_command = |span: &&str| span.starts_with("coracle ") && !span.contains(['|', '[', '…', '*']);
            let spans = line.split('`').skip(1).step_by(2).filter(|_| !fenced).filter(is_command);
            for words in spans.flat_map(|span| commands(&span.replace("COMMAND", "status"))) {
                seen += 1;
                if Arguments::try_parse_from(&words).is_err_and(|error| is_wrong(&error)) {
                    wrong.push(format!("{page}:{}: `{}`", index + 1, words.join(" ")));
                }
            }
        }
    }
    assert!(seen > 0);
    assert_eq!(wrong, Vec::<String>::new());
}

/// Targets of `[text](target)` outside fenced blocks and code spans.
fn links(page: &str) -> Vec<String> {
    let text = read(page);
    let mut prose = String::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            prose.extend(line.split('`').step_by(2));
            prose.push('\n');
        }
    }
    prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

/// Anchors of a page's headings, made as GitHub makes them.
fn anchors(page: &str) -> Vec<String> {
    let text = read(page);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
        })
        .collect()
}

#[test]
fn every_link_inside_the_repository_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let directory = root().join(&page).parent().unwrap().to_path_buf();
        for link in links(&page).into_iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { root().join(&page) } else { directory.join(path) };
            let Ok(target) = target.canonicalize() else {
                broken.push(format!("{page}: {link}"));
                continue;
            };
            let relative = target.strip_prefix(root().canonicalize().unwrap()).unwrap().to_string_lossy().into_owned();
            if !anchor.is_empty() && !anchors(&relative).contains(&anchor.to_owned()) {
                broken.push(format!("{page}: {link} (no such heading)"));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let mut reached = vec!["README.md".to_owned()];
    let mut next = 0;
    while let Some(page) = reached.get(next).cloned() {
        next += 1;
        let directory = root().join(&page).parent().unwrap().to_path_buf();
        for link in links(&page).iter().filter(|link| !link.contains("://")) {
            let Ok(target) = directory.join(link.split('#').next().unwrap()).canonicalize() else { continue };
            let mut found = vec![target.clone()];
            if target.is_dir() {
                found = pages().iter().map(|page| root().join(page)).filter(|page| page.starts_with(&target)).collect();
            }
            for path in found.iter().filter(|path| path.extension().is_some_and(|ending| ending == "md")) {
                let path = path.strip_prefix(root().canonicalize().unwrap()).unwrap().to_string_lossy().into_owned();
                if !reached.contains(&path) {
                    reached.push(path);
                }
            }
        }
    }
    let lost: Vec<String> = pages().into_iter().filter(|page| !reached.contains(page)).collect();
    assert_eq!(lost, Vec::<String>::new());
}

#[test]
fn what_needs_several_words_is_read_as_the_shell_would() {
    let words = commands("  FOO=1 coracle create cluster --name 'a b'  # why | not");
    assert_eq!(words, [["coracle", "create", "cluster", "--name", "a b"]]);
    assert_eq!(commands("curl \"$(coracle url hello)\""), Vec::<Vec<String>>::new());
    assert_eq!(
        commands("coracle get clusters | wc -l && coracle version"),
        [vec!["coracle", "get", "clusters"], vec!["coracle", "version"]]
    );
}
