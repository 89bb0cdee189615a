//! Runs a page of the documentation as it is written: what it tells a user to do is done, and what it shows must come true.
//!
//! - A block whose first line is a comment with nothing but a file's name is that file.
//! - A `sh` block is pasted once into an interactive shell in a terminal, as a person does, and every command must succeed.
//!   A command that reads what is typed takes the lines after it, and the block fails.
//! - A `console` block shows commands after `$ ` and what they print. These commands only look, so they are repeated until
//!   they print it. `…` stands for any text in a line, a line with nothing else for any lines; blanks are not compared.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::cluster::{Cluster, EVENTUALLY_TIMEOUT};
use super::run::{ensure, eventually, run};

/// How long a block may take.
const BLOCK_LIMIT: Duration = Duration::from_secs(180);

/// A fenced block of a page.
#[derive(Debug, PartialEq, Eq)]
struct Block<'p> {
    line: usize,
    language: &'p str,
    text: String,
}

/// Follows a page of `docs/guides` from top to bottom.
pub fn follow(cluster: &Cluster, page: &str) -> Result<(), String> {
    follow_as(cluster, page, &[])
}

/// The same with other words in the place of some: names on the page may be those of the user's own things.
pub fn follow_as(cluster: &Cluster, page: &str, words: &[(&str, &str)]) -> Result<(), String> {
    follow_page(cluster, &format!("docs/guides/{page}"), words)
}

/// Follows any page, by its path in the repository.
pub fn follow_page(cluster: &Cluster, page: &str, words: &[(&str, &str)]) -> Result<(), String> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = repository.join(page);
    let failed = |error: std::io::Error| format!("{page}: {error}");
    let mut text = std::fs::read_to_string(&path).map_err(failed)?;
    for (word, own) in words {
        ensure(text.contains(word), || format!("{page} has no `{word}`"))?;
        text = text.replace(word, own);
    }
    let directory = cluster.home.join("guide");
    std::fs::create_dir_all(&directory).map_err(failed)?;
    // The pages start at the top of the repository; what they make must not land in it.
    for name in ["configs", "samples"] {
        if !directory.join(name).exists() {
            let mut copy = Command::new("cp");
            copy.arg("--recursive").arg(repository.join(name)).arg(&directory);
            run(copy, None, BLOCK_LIMIT)?.ok()?;
        }
    }
    let mut done = 0;
    for block in blocks(&text) {
        let place = |error: String| format!("{page}:{}: {error}", block.line);
        if let Some((name, content)) = file(&block) {
            std::fs::write(directory.join(name), content).map_err(|error| place(error.to_string()))?;
        } else {
            match block.language {
                "sh" => once(cluster, &directory, &block.text).map_err(place)?,
                "console" => shown(cluster, &directory, &block.text)
                    .map_err(|error| place(format!("{error}\n{}", circumstances(cluster))))?,
                _ => continue,
            }
            done += 1;
        }
    }
    ensure(done > 0, || format!("{page} has nothing to run"))
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut open = false;
    for (index, line) in page.lines().enumerate() {
        match (open, line.trim_start().strip_prefix("```")) {
            (false, Some(language)) => {
                blocks.push(Block { line: index + 1, language: language.trim(), text: String::new() });
                open = true;
            }
            (true, Some(_)) => open = false,
            (true, None) => blocks.last_mut().into_iter().for_each(|block| {
                block.text.push_str(line);
                block.text.push('\n');
            }),
            (false, None) => {}
        }
    }
    blocks
}

/// The name and the content of a block that is a file.
fn file<'b>(block: &'b Block<'_>) -> Option<(&'b str, &'b str)> {
    let name = block.text.lines().next()?.strip_prefix("# ")?;
    let is_name = (name.contains('.') || name == "Dockerfile")
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    is_name.then_some((name, block.text.as_str()))
}

/// What the shell says when it has come to the end of a block.
const END: &str = "the block has ended";

fn once(cluster: &Cluster, directory: &Path, script: &str) -> Result<(), String> {
    let terminal = "[ -z \"$(declare -F kubectl)\" ] || export -f kubectl\n\
                    exec script --quiet --return --command 'bash --noprofile --norc --noediting -i' /dev/null";
    let typed = format!("PS1= PS2=; set -o errexit -o pipefail\n{script}\necho the block \"has\" ended; exit 0\n");
    let path = cluster.write("typed", &typed)?;
    let typed = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let output = run(cluster.script(terminal, directory)?, Some(typed), BLOCK_LIMIT)?;
    ensure(output.code == 0 && output.stdout.contains(END), || output.told())
}

/// A command that reads what is typed takes the rest of its block, which is noticed.
pub fn notices_what_reads(cluster: &Cluster) -> Result<(), String> {
    once(cluster, &cluster.home, "echo first")?;
    let eaten = once(cluster, &cluster.home, "cat >/dev/null\necho second");
    ensure(eaten.is_err(), || "`cat` took the rest of a block, and nobody noticed".to_owned())?;
    let failed = once(cluster, &cluster.home, "false\necho second");
    ensure(failed.is_err(), || "a command of a block failed, and nobody noticed".to_owned())
}

/// Each command of the block, until it prints what the page shows.
fn shown(cluster: &Cluster, directory: &Path, text: &str) -> Result<(), String> {
    let text = format!("\n{text}");
    for part in text.split("\n$ ").filter(|part| !part.trim().is_empty()) {
        let mut rest = part;
        // A command goes on after a backslash.
        let mut command = String::new();
        while let Some((line, after)) = rest.split_once('\n') {
            command.push_str(line);
            command.push('\n');
            rest = after;
            if !line.ends_with('\\') {
                break;
            }
        }
        eventually(EVENTUALLY_TIMEOUT, || {
            // In the order in which a terminal shows it.
            let script = format!("exec 2>&1\n{command}");
            let printed = run(cluster.script(&script, directory)?, None, BLOCK_LIMIT)?.stdout;
            ensure(matches(rest, &printed), || {
                format!("`{}` printed\n{printed}and not\n{}", command.trim(), rest.trim_end())
            })
        })?;
    }
    Ok(())
}

/// What the page's pods and the nodes' runtimes say: some failures are seen once in many runs, on machines that nobody
/// can look at afterwards.
fn circumstances(cluster: &Cluster) -> String {
    const SCRIPT: &str = "kubectl get pods -o wide\nkubectl get events --sort-by=.lastTimestamp | tail -20";
    const LOOK: &str = "ls -l /var/log/pods/$0_*/*/*.log 2>/dev/null\n\
        journalctl --unit containerd --unit kubelet --since -3min --output cat --no-pager |\n\
        grep --ignore-case --extended-regexp 'level=(warn|error)|^[EW][0-9]{4}' |\n\
        grep --invert-match 'collecting metrics' | tail -20 | cut -c -250";
    let told = |command: Result<Command, String>| match command.and_then(|command| run(command, None, BLOCK_LIMIT)) {
        Ok(output) => format!("{}{}", output.stdout, output.stderr),
        Err(error) => error,
    };
    let namespace = ["config", "view", "--minify", "--output=jsonpath={..namespace}"];
    let namespace = cluster.kubectl(&namespace).unwrap_or_default();
    let nodes = cluster.kubectl(&["get", "nodes", "--output=jsonpath={.items[*].metadata.name}"]).unwrap_or_default();
    let of_node = |node: &str| {
        let mut look = Command::new("docker");
        look.args(["exec", node, "sh", "-c", LOOK, namespace.trim()]);
        format!("{node}:\n{}", told(Ok(look)))
    };
    let nodes: String = nodes.split_whitespace().map(of_node).collect();
    format!("{}{nodes}", told(cluster.script(SCRIPT, &cluster.home)))
}

/// Whether the output is the one that is shown.
fn matches(shown: &str, printed: &str) -> bool {
    let lines = |text: &str| -> Vec<String> {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(words).filter(|line| !line.is_empty()).collect()
    };
    all_match(&lines(shown), &lines(printed))
}

fn all_match(shown: &[String], printed: &[String]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first == "…" => (0..=printed.len()).any(|skip| all_match(rest, &printed[skip..])),
        Some((first, rest)) => {
            printed.split_first().is_some_and(|(line, after)| line_matches(first, line) && all_match(rest, after))
        }
    }
}

fn line_matches(shown: &str, line: &str) -> bool {
    let mut parts = shown.split('…');
    let start = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(end) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(found) = rest.find(part) else { return false };
        rest = &rest[found + part.len()..];
    }
    rest.ends_with(end)
}

/// The rules above, on a page of their own: this program has no other place for tests.
pub fn reads_pages() -> Result<(), String> {
    let page = "```yaml\n# a.yaml\nkind: x\n```\ntext\n```console\n$ echo 1\n1\n```\n";
    let found = blocks(page);
    ensure(found.len() == 2 && found[1].language == "console" && found[1].line == 6, || format!("{found:?}"))?;
    ensure(file(&found[0]).is_some_and(|(name, _)| name == "a.yaml"), || format!("{found:?}"))?;
    ensure(file(&found[1]).is_none(), || format!("{found:?}"))?;
    let same = [("a  b\n", "a b\n\n"), ("… 200", "17 200"), ("x…y…z", "x1y2z"), ("…\nb", "1\n2\nb"), ("", "")];
    let other = [("… 200", "17 200\n1 500"), ("a", ""), ("x…y", "x1z"), ("…\nb", "b\nc"), ("", "a")];
    for (shown, printed) in same {
        ensure(matches(shown, printed), || format!("`{shown}` should stand for `{printed}`"))?;
    }
    for (shown, printed) in other {
        ensure(!matches(shown, printed), || format!("`{shown}` should not stand for `{printed}`"))?;
    }
    Ok(())
}
