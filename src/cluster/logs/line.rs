//! Lines of a container's log, as the container runtime writes them: `TIME STREAM F|P TEXT`. Pure.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A line that a container wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// When it began.
    pub(super) time: Option<OffsetDateTime>,
    /// With its line end.
    pub(super) text: Vec<u8>,
}

impl Line {
    /// Whether it is from after this moment; what does not say is.
    pub(super) fn is_since(&self, since: Option<OffsetDateTime>) -> bool {
        since.is_none_or(|since| self.time.is_none_or(|time| time >= since))
    }
}

/// Puts lines together from bytes in pieces: the runtime divides long ones.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// What has come since the last line end.
    rest: Vec<u8>,
    /// The beginning of a line whose other parts follow.
    begun: Option<Line>,
}

impl Lines {
    /// The lines that end in this piece.
    pub(super) fn add(&mut self, piece: &[u8]) -> Vec<Line> {
        self.rest.extend_from_slice(piece);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let rest = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        whole.split_inclusive(|byte| *byte == b'\n').filter_map(|line| self.line(line)).collect()
    }

    fn line(&mut self, line: &[u8]) -> Option<Line> {
        let (time, is_partial, text) = parts(line);
        let mut line = match self.begun.take() {
            Some(mut begun) => {
                begun.text.extend_from_slice(text);
                begun
            }
            None => Line { time, text: text.to_vec() },
        };
        if !is_partial {
            return Some(line);
        }
        line.text.pop_if(|byte| *byte == b'\n');
        self.begun = Some(line);
        None
    }
}

/// The time, whether more of the line follows, and the text; a line of another form is text.
fn parts(line: &[u8]) -> (Option<OffsetDateTime>, bool, &[u8]) {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tag, text) = (fields.next(), fields.next(), fields.next(), fields.next());
    let time = time.and_then(|time| OffsetDateTime::parse(std::str::from_utf8(time).ok()?, &Rfc3339).ok());
    match (time, stream, tag, text) {
        (Some(time), Some(b"stdout" | b"stderr"), Some(tag), Some(text)) => {
            (Some(time), tag.split(|byte| *byte == b':').next() == Some(b"P"), text)
        }
        _ => (None, false, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect()
    }

    #[test]
    fn lines_are_put_together_from_pieces_and_parts() {
        let mut lines = Lines::default();
        let text = "2026-01-01T00:00:00.5Z stdout F one  two\n2026-01-01T00:00:01Z stderr P thr\n\
                    2026-01-01T00:00:02Z stderr F ee\n2026-01-01T00:00:03Z stdout F \nno form\n";
        let mut found = Vec::new();
        for piece in text.as_bytes().chunks(7) {
            found.extend(lines.add(piece));
        }
        assert_eq!(texts(&found), ["one  two\n", "three\n", "\n", "no form\n"]);
        let since = OffsetDateTime::parse("2026-01-01T00:00:01Z", &Rfc3339).unwrap();
        let later: Vec<bool> = found.iter().map(|line| line.is_since(Some(since))).collect();
        assert_eq!(later, [false, true, true, true]);
        assert!(lines.add(b"2026-01-01T00:00:04Z stdout F without an end").is_empty());
    }
}
