//! The records of extended headers, read by their lengths: names and attributes may have line breaks.

use std::io;

/// What extended headers contain about the next entry.
#[derive(Debug, Default)]
pub(super) struct Records(Vec<(String, Vec<u8>)>);

impl Records {
    pub(super) fn parse(mut text: &[u8]) -> io::Result<Self> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "an extended header of the layer is damaged");
        let mut records = Vec::new();
        while !text.is_empty() {
            let space = text.iter().position(|byte| *byte == b' ').ok_or_else(damaged)?;
            let length = std::str::from_utf8(&text[..space]).ok().and_then(|length| length.parse::<usize>().ok());
            let length = length.filter(|length| (space + 2..=text.len()).contains(length)).ok_or_else(damaged)?;
            let record = text[space + 1..length].strip_suffix(b"\n").ok_or_else(damaged)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(damaged)?;
            // Keys are UTF-8; others are unknown here.
            if let Ok(key) = std::str::from_utf8(&record[..equals]) {
                records.push((key.to_owned(), record[equals + 1..].to_vec()));
            }
            text = &text[length..];
        }
        Ok(Self(records))
    }

    /// Keys with their values, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }

    /// The value of a key; the last one counts, and an empty one counts as missing.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let last = self.iter().filter(|(other, _)| *other == key).last();
        last.map(|(_, value)| value).filter(|value| !value.is_empty())
    }

    /// The number at this key, if there is one.
    pub(super) fn number(&self, key: &str) -> io::Result<Option<u64>> {
        self.get(key).map(number).transpose()
    }
}

/// A decimal number, at most as large as engines allow.
pub(super) fn number(text: &[u8]) -> io::Result<u64> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
    number.and_then(|number| u64::try_from(number).ok()).ok_or_else(|| {
        let text = format!("`{}` in an extended header is not a number", text.escape_ascii());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_end_where_their_length_says() {
        let records = Records::parse(b"16 a=one\n9 b=2\n\n11 size=12\n").unwrap();
        assert_eq!(records.get("a"), Some(&b"one\n9 b=2\n"[..]));
        assert_eq!((records.get("b"), records.number("size").unwrap()), (None, Some(12)));
    }

    #[test]
    fn the_last_record_of_a_key_counts_and_an_empty_one_says_nothing() {
        let records = Records::parse(b"6 a=1\n6 a=2\n6 b=1\n5 b=\n6 c=x\n").unwrap();
        assert_eq!((records.get("a"), records.get("b")), (Some(&b"2"[..]), None));
        assert_eq!((records.number("b").unwrap(), records.number("c").is_err()), (None, true));
    }

    #[test]
    fn damaged_records_are_refused() {
        for text in ["3 a=b\n", "99 a=b\n", "6 a=bc", "x a=b\n", "5 ab\n", "6"] {
            assert!(Records::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        for text in ["", "-1", "1.5", "9223372036854775808", "ten"] {
            assert!(number(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
