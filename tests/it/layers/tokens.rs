//! A source file as words and signs, without comments, texts, and items that are compiled for tests only.

/// A word, a sign or a text, and the line it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
    /// It is a text in quotes: what it says is no code.
    pub(crate) quoted: bool,
}

/// The file's tokens outside of tests. `::` is one token.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    without_tests(&all(source))
}

fn all(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while let Some(&c) = chars.get(at) {
        let end = end_of(&chars, at);
        let text: String = chars[at..end].iter().collect();
        let quoted = text.ends_with('"') || text.ends_with("\"#");
        let skipped = c.is_whitespace() || text.starts_with("//") || text.starts_with("/*") || c == '\'';
        if !skipped {
            tokens.push(Token { text: text.clone(), line, quoted });
        }
        line += text.matches('\n').count();
        at = end;
    }
    tokens
}

/// Where the token ends that begins here.
fn end_of(chars: &[char], start: usize) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let starts = |text: &str| text.chars().zip(start..).all(|(c, at)| chars.get(at) == Some(&c));
    let past = |text: &str, from: usize| {
        let sought: Vec<char> = text.chars().collect();
        (from..chars.len()).find(|at| chars[*at..].starts_with(&sought)).map_or(chars.len(), |at| at + sought.len())
    };
    if starts("//") {
        return (start..chars.len()).find(|at| chars[*at] == '\n').unwrap_or(chars.len());
    }
    if starts("/*") {
        return past("*/", start + 2);
    }
    for prefix in ["r", "br"] {
        let hashes = chars[start..].iter().skip(prefix.len()).take_while(|c| **c == '#').count();
        let quote = start + prefix.len() + hashes;
        if starts(prefix) && chars.get(quote) == Some(&'"') {
            return past(&format!("\"{}", "#".repeat(hashes)), quote + 1);
        }
    }
    match chars[start] {
        '"' => end_of_text(chars, start, '"'),
        // A lifetime is a quote and a word; a character has another quote behind it.
        '\'' if chars.get(start + 1) == Some(&'\\') || chars.get(start + 2) == Some(&'\'') => {
            end_of_text(chars, start, '\'')
        }
        c if is_word(c) || c == '\'' => (start + 1..chars.len()).find(|at| !is_word(chars[*at])).unwrap_or(chars.len()),
        ':' if starts("::") => start + 2,
        _ => start + 1,
    }
}

fn end_of_text(chars: &[char], start: usize, quote: char) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// Leaves out each item behind a `#[cfg(test)]`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let attribute = attribute(tokens, at);
        let is = |word: &str| tokens[at..at + attribute].iter().any(|token| token.text == word);
        if attribute > 0 && is("cfg") && is("test") && !is("not") {
            at += attribute;
            at += item(&tokens[at..]);
        } else {
            kept.extend_from_slice(&tokens[at..at + attribute.max(1)]);
            at += attribute.max(1);
        }
    }
    kept
}

/// How many tokens the attribute has that begins here; none if there is none.
fn attribute(tokens: &[Token], start: usize) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| &token.text);
    if text(start) != "#" || text(start + 1) != "[" {
        return 0;
    }
    let mut depth = 0;
    let closes = |token: &Token| {
        depth += i32::from(token.text == "[") - i32::from(token.text == "]");
        depth == 0
    };
    let length = tokens[start + 1..].iter().position(closes);
    length.map_or(0, |length| length + 2)
}

/// How many tokens an item has: it ends with `;`, or with its block.
fn item(tokens: &[Token]) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            "}" if depth == 1 => return index + 1,
            ")" | "]" | "}" => depth -= 1,
            ";" if depth == 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}

#[test]
fn comments_texts_and_tests_are_no_code() {
    let source = "// a::b\nlet x: &'a str = \"c::d\"; /* e */ ':' 'x'\n#[cfg(test)]\n#[path = \"y\"]\nmod y;\n\
                  #[cfg(test)]\nfn z() { if a { b } }\nuse f::{g, h}; r#\"i\"#";
    let found: Vec<String> = tokens(source).iter().map(|token| format!("{}:{}", token.line, token.text)).collect();
    let expected = "2:let 2:x 2:: 2:& 2:str 2:= 2:\"c::d\" 2:; 8:use 8:f 8::: 8:{ 8:g 8:, 8:h 8:} 8:; 8:r#\"i\"#";
    assert_eq!(found.join(" "), expected);
}
