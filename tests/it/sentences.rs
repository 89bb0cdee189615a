//! Where a sentence ends.

/// Abbreviations with a full stop that does not end a sentence.
const ABBREVIATIONS: [&str; 7] = ["e.g.", "i.e.", "vs.", "cf.", "approx.", "incl.", "resp."];

/// A paragraph's sentences. None begins with what `is_forbidden` says of the rest of the paragraph.
pub(crate) fn sentences(text: &str, is_forbidden: fn(&str) -> bool) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let whole = unbreakable(&characters);
    let mut sentences = Vec::new();
    let mut sentence = String::new();
    for (index, c) in characters.iter().enumerate() {
        if *c != ' ' || whole[index] {
            sentence.push(*c);
            continue;
        }
        if characters.get(index + 1).is_none_or(|next| *next == ' ') {
            continue;
        }
        let rest: String = characters[index + 1..].iter().collect();
        let title = sentences.is_empty() && is_bold(&sentence);
        if !title && ends(&sentence, &rest) && !is_forbidden(&rest) {
            sentences.push(std::mem::take(&mut sentence));
        } else {
            sentence.push(' ');
        }
    }
    sentences.push(sentence);
    sentences
}

/// A title in bold at the start of a paragraph stays with the first sentence.
fn is_bold(text: &str) -> bool {
    text.strip_prefix("**").and_then(|text| text.strip_suffix("**")).is_some_and(|inside| !inside.contains("**"))
}

/// Whether a sentence ends between these two.
fn ends(before: &str, after: &str) -> bool {
    let bare = before.trim_end_matches([')', ']', '"', '\'', '*', '_', '”', '’']);
    let next = after.trim_start_matches(['(', '[', '"', '\'', '*', '_', '“', '‘']).chars().next();
    let capital = next.is_some_and(char::is_uppercase);
    let word = bare.rsplit([' ', '(', '[', '"', '“', '*']).next().unwrap_or_default();
    if bare.ends_with('…') || bare.ends_with("...") || word == "etc." {
        return capital;
    }
    // In quotes or parentheses inside of a sentence: she asks "why?" and goes.
    let inside = bare.len() < before.len() && next.is_some_and(char::is_lowercase);
    if bare.ends_with(['!', '?']) {
        return !inside;
    }
    // A name's first letter.
    let initial = word.len() == 2 && word.starts_with(char::is_uppercase);
    bare.ends_with('.') && word != "." && !initial && !ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

/// Which characters belong to code or to a link.
fn unbreakable(text: &[char]) -> Vec<bool> {
    let mut whole = vec![false; text.len()];
    let mut index = 0;
    while index < text.len() {
        let end = match text[index] {
            '\\' => index + 1,
            '`' => code(text, index),
            '[' => link(text, index).unwrap_or(index),
            _ => index,
        };
        let end = end.min(text.len() - 1);
        if end > index {
            whole[index..=end].fill(true);
        }
        index = end + 1;
    }
    whole
}

/// The last character of the code that starts here, or of the backticks if they are never closed.
fn code(text: &[char], start: usize) -> usize {
    let run = |at: usize| text[at..].iter().take_while(|c| **c == '`').count();
    let ticks = run(start);
    let mut at = start + ticks;
    while at < text.len() {
        match run(at) {
            0 => at += 1,
            closing if closing == ticks => return at + closing - 1,
            other => at += other,
        }
    }
    start + ticks - 1
}

/// The last character of the link that starts here: `[text](target)` or `[text][name]`.
fn link(text: &[char], start: usize) -> Option<usize> {
    let end = bracket(text, start, '[', ']')?;
    match text.get(end + 1) {
        Some('(') => bracket(text, end + 1, '(', ')'),
        Some('[') => bracket(text, end + 1, '[', ']'),
        _ => None,
    }
}

fn bracket(text: &[char], start: usize, open: char, close: char) -> Option<usize> {
    let mut depth = 0;
    let mut at = start;
    while at < text.len() {
        match text[at] {
            '\\' => at += 1,
            '`' => at = code(text, at),
            c if c == open => depth += 1,
            c if c == close && depth == 1 => return Some(at),
            c if c == close => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}
