//! Every sentence of the documentation begins on a line of its own, and no sentence is broken over lines: a change
//! of one sentence is then a change of one line. Everything that is not prose stays as it is, and so does the rendering.

use crate::sentences::sentences;
use crate::sources::{files, read, root};

#[test]
fn every_sentence_begins_on_a_line_of_its_own() {
    let mut broken = Vec::new();
    for page in files(".", ".md") {
        let text = read(&page);
        let reflowed = reflow(&text);
        if std::env::var_os("CORACLE_UPDATE").is_some() {
            std::fs::write(root().join(&page), &reflowed).unwrap();
        } else if let Some(line) = text.lines().zip(reflowed.lines()).position(|(is, shall)| is != shall) {
            broken.push(format!("{page}:{}", line + 1));
        } else if text != reflowed {
            broken.push(page);
        }
    }
    assert_eq!(broken, Vec::<String>::new(), "`CORACLE_UPDATE=1 cargo test --test it markdown` rewrites them");
}

/// The text with each sentence of its prose on a line of its own.
pub(crate) fn reflow(text: &str) -> String {
    let mut page = Page::default();
    for line in text.lines() {
        page.line(line);
    }
    page.end_paragraph();
    page.out
}

/// A page while it is read.
#[derive(Default)]
struct Page {
    out: String,
    paragraph: Option<Paragraph>,
    literal: Option<Literal>,
    /// Indentation of the text of the last list item.
    content: usize,
}

/// Lines that are copied as they are, up to the one that ends them.
enum Literal {
    /// A fenced block, with its fence.
    Fence(String),
    Comment,
    /// Any other block of HTML, which ends with a blank line.
    Html,
}

/// Prose.
struct Paragraph {
    lines: Vec<String>,
    /// What stands in front of the first line: blanks, or the markers of list items.
    prefix: String,
    item: bool,
}

impl Literal {
    fn opened_by(line: &str, in_paragraph: bool) -> Option<Self> {
        let fence: String = line.chars().take_while(|c| line.starts_with(*c) && "`~".contains(*c)).collect();
        if fence.len() >= 3 && !line[fence.len()..].contains('`') {
            Some(Self::Fence(fence))
        } else if line.starts_with("<!--") {
            Some(Self::Comment)
        } else if !in_paragraph && is_html(line) {
            Some(Self::Html)
        } else {
            None
        }
    }

    fn is_ended_by(&self, line: &str, first: bool) -> bool {
        let line = line.trim();
        match self {
            Self::Fence(fence) => {
                !first && line.starts_with(fence.as_str()) && line.chars().all(|c| fence.starts_with(c))
            }
            Self::Comment => line.contains("-->"),
            Self::Html => line.is_empty(),
        }
    }
}

impl Page {
    fn line(&mut self, line: &str) {
        let text = line.trim_start();
        let indentation = line.len() - text.len();
        if let Some(literal) = self.literal.take() {
            self.copy(line);
            self.literal = (!literal.is_ended_by(line, false)).then_some(literal);
            return;
        }
        let open = self.paragraph.is_some();
        let item = self.paragraph.as_ref().is_some_and(|paragraph| paragraph.item);
        let markers = markers(text, open && !item);
        if let Some(literal) = Literal::opened_by(&text[markers..], open) {
            self.end_paragraph();
            self.copy(line);
            self.literal = (!literal.is_ended_by(text, true)).then_some(literal);
        } else if open && is_underline(text) {
            self.end_heading(line);
        } else if is_literal(text, open) || !open && indentation >= self.content + 4 {
            self.end_paragraph();
            self.copy(line);
        } else if markers > 0 {
            self.end_paragraph();
            self.content = indentation + markers;
            self.begin(line, self.content, true);
        } else if let Some(paragraph) = &mut self.paragraph {
            paragraph.lines.push(line.to_owned());
        } else {
            self.content = self.content.min(indentation);
            self.begin(line, indentation, false);
        }
    }

    fn begin(&mut self, line: &str, prefix: usize, item: bool) {
        self.paragraph = Some(Paragraph { lines: vec![line.to_owned()], prefix: line[..prefix].to_owned(), item });
    }

    fn copy(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    /// What looked like a paragraph was a heading, with this line below it.
    fn end_heading(&mut self, underline: &str) {
        for line in self.paragraph.take().into_iter().flat_map(|paragraph| paragraph.lines) {
            self.copy(&line);
        }
        self.copy(underline);
    }

    fn end_paragraph(&mut self) {
        let Some(paragraph) = self.paragraph.take() else { return };
        let indentation = " ".repeat(paragraph.prefix.chars().count());
        let mut text = String::new();
        let mut first = true;
        let last = paragraph.lines.len() - 1;
        for (index, line) in paragraph.lines.iter().enumerate() {
            let line = if index == 0 { &line[paragraph.prefix.len()..] } else { line.trim_start() };
            // Two blanks or a backslash at the end of a line make a line break that is seen.
            let broken = index < last && (line.ends_with("  ") || line.ends_with('\\'));
            text.push_str(line.trim_end());
            if !broken && index < last {
                text.push(' ');
                continue;
            }
            let ending = if broken && line.ends_with("  ") { "  " } else { "" };
            let sentences = sentences(&text, begins_a_block);
            let count = sentences.len();
            for (index, sentence) in sentences.into_iter().enumerate() {
                let prefix = if first { &paragraph.prefix } else { &indentation };
                let ending = if index + 1 == count { ending } else { "" };
                self.copy(&format!("{prefix}{sentence}{ending}"));
                first = false;
            }
            text.clear();
        }
    }
}

/// The length of the markers of list items that a line begins with. A paragraph is not ended by a number other than 1.
fn markers(line: &str, in_paragraph: bool) -> usize {
    let digits = line.chars().take_while(char::is_ascii_digit).count();
    let marker = match digits {
        0 if line.starts_with(['-', '*', '+']) => 1,
        1..=9 if line[digits..].starts_with(['.', ')']) && !(in_paragraph && &line[..digits] != "1") => digits + 1,
        _ => return 0,
    };
    let rest = line[marker..].trim_start_matches(' ');
    let length = line.len() - rest.len();
    if length == marker || rest.is_empty() || is_rule(line) { 0 } else { length + markers(rest, false) }
}

fn is_rule(line: &str) -> bool {
    let marks = line.chars().filter(|c| *c != ' ');
    marks.clone().count() >= 3 && ['-', '*', '_'].iter().any(|mark| marks.clone().all(|c| c == *mark))
}

fn is_underline(line: &str) -> bool {
    let line = line.trim_end();
    !line.is_empty() && (line.chars().all(|c| c == '=') || line.chars().all(|c| c == '-'))
}

fn is_html(line: &str) -> bool {
    let name = line.strip_prefix('<').map(|rest| rest.trim_start_matches(['/', '!', '?']));
    let is_address = |name: &str| name.split('>').next().is_some_and(|inside| inside.contains("://"));
    name.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()) && !is_address(name))
}

/// Blank lines, headings, tables, quotations, rules, link definitions.
fn is_literal(line: &str, in_paragraph: bool) -> bool {
    let level = line.chars().take_while(|c| *c == '#').count();
    let heading = (1..=6).contains(&level) && (line.len() == level || line[level..].starts_with(' '));
    let definition = !in_paragraph && line.starts_with('[') && line.contains("]: ") && !line.contains("](");
    line.is_empty() || heading || definition || line.starts_with(['|', '>']) || is_rule(line)
}

/// Whether a line that begins with this would be something else than prose.
fn begins_a_block(text: &str) -> bool {
    let alone = format!("{} x", text.split(' ').next().unwrap_or_default());
    let literal = is_literal(&alone, false) || is_underline(&alone[..alone.len() - 2]);
    literal || markers(&alone, false) > 0 || Literal::opened_by(&alone, false).is_some()
}

/// Reflows the text, which must not change when it is reflowed again.
fn check(text: &str, expected: &str) {
    assert_eq!(reflow(text), expected);
    assert_eq!(reflow(expected), expected);
}

#[test]
fn a_paragraph_becomes_one_line_per_sentence() {
    check(
        "One is\nhere. Two is\nthere! Three?  Four\n\nFive.\n",
        "One is here.\nTwo is there!\nThree?\nFour\n\nFive.\n",
    );
    check(
        "It starts. `create` waits.\ncoracle ends. 3 nodes are up.\n",
        "It starts.\n`create` waits.\ncoracle ends.\n3 nodes are up.\n",
    );
}

#[test]
fn full_stops_inside_of_a_sentence_stay() {
    let one = [
        "Tools, e.g. Helm, i.e. `helm`, vs. Kustomize etc. work.",
        "Kubernetes 1.36.3 reads cluster.yaml and v1.35.4.tar.gz from docs/README.md of coracle.dev today.",
        "The list 1, 2, … and so on ends... somewhere.",
        "She asks \"why?\" and goes (really!) home.",
        "It is `a. B` and ``c. ` D`` and [see this. And that](e.md) in one.",
        "Written by J. Smith.",
    ];
    for sentence in one {
        check(&format!("{sentence}\n"), &format!("{sentence}\n"));
    }
}

#[test]
fn what_closes_after_the_full_stop_belongs_to_the_sentence() {
    check(
        "It takes 50 ms. (Looking is allowed.) That buys. He says \"Go.\" Then *he goes.* [Next](a.md). **End.** (All of it.)\n",
        "It takes 50 ms.\n(Looking is allowed.)\nThat buys.\nHe says \"Go.\"\nThen *he goes.*\n[Next](a.md).\n**End.**\n(All of it.)\n",
    );
    check("Wait… Then. Wait... Now.\n", "Wait…\nThen.\nWait...\nNow.\n");
    check("A `b`. `C` d.\n", "A `b`.\n`C` d.\n");
}

#[test]
fn a_bold_title_stays_with_its_sentence() {
    check("**Context.** It is\nso. **Bold.** Text.\n", "**Context.** It is so.\n**Bold.**\nText.\n");
}

#[test]
fn list_items_keep_their_indentation() {
    check("- One\n  is. Two.\n- Three.\n  - Four. Five.\n", "- One is.\n  Two.\n- Three.\n  - Four.\n    Five.\n");
    check(
        "1. **Go.** Go up. Stop.\n2. Go.\n10. Go. Stop.\n\n    Go. Stop.\n\nStop.\n",
        "1. **Go.** Go up.\n   Stop.\n2. Go.\n10. Go.\n    Stop.\n\n    Go.\n    Stop.\n\nStop.\n",
    );
}

#[test]
fn no_line_begins_with_what_markdown_would_take_for_something_else() {
    for next in
        ["- b", "+ b", "* b", "1. b", "2026. b", "1) b", "# b", "> b", "| b", "<br> b", "``` b", "--- b", "=== b"]
    {
        let text = format!("It is so. {next}\n");
        let line = next.split(' ').next().unwrap();
        assert!(!reflow(&text).lines().any(|reflowed| reflowed.starts_with(line)), "{next}");
    }
    check("It was made in\n2026. It ends.\n", "It was made in 2026.\nIt ends.\n");
}

#[test]
fn everything_else_stays() {
    let text = "# A. B\n\nTitle. One\n===\n\n| a. B | c |\n|---|---|\n\n```sh\na. B\n\n  c. D\n```\n\n    code. Code\n\n\
        <p>a. B\nc. D</p>\n\n<!-- a. B\n\nc. D -->\n\n> a. B\n\n[a]: b. C\n\n---\n\n- ```\n  a. B\n  ```\n\nA.  \nB.\\\nC.\n";
    check(text, text);
}
