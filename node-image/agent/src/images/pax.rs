//! The extended headers of a tar, read by their lengths: the crate that reads the rest cuts them at line breaks, which
//! names and attributes may have.

use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;

use tar::{EntryType, Header};

/// Size of a header, and what contents are filled up to, bytes.
const BLOCK: usize = 512;
/// Extended headers above this size (bytes) are none; attributes of a file cannot be larger together.
const MAX_RECORDS: u64 = 1 << 20;

/// What an extended header says of the next entry.
#[derive(Debug, Default)]
pub(super) struct Records(Vec<(String, Vec<u8>)>);

impl Records {
    fn parse(mut text: &[u8]) -> io::Result<Self> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "an extended header of the layer is damaged");
        let mut records = Vec::new();
        while !text.is_empty() {
            let space = text.iter().position(|byte| *byte == b' ').ok_or_else(damaged)?;
            let length = std::str::from_utf8(&text[..space]).ok().and_then(|length| length.parse::<usize>().ok());
            let length = length.filter(|length| (space + 2..=text.len()).contains(length)).ok_or_else(damaged)?;
            let record = text[space + 1..length].strip_suffix(b"\n").ok_or_else(damaged)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(damaged)?;
            // Keys are UTF-8; what is not means nothing to us.
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

    /// The value of a key; the last one counts.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.iter().filter(|(other, _)| *other == key).last().map(|(_, value)| value)
    }

    /// A number.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        std::str::from_utf8(self.get(key)?).ok()?.parse().ok()
    }
}

/// The extended header that passed last, until somebody takes it.
#[derive(Clone, Default)]
pub(super) struct Found(Rc<RefCell<Records>>);

impl Found {
    /// Those of the entry that was begun last.
    pub(super) fn take(&self) -> Records {
        self.0.take()
    }
}

/// Passes a tar on, and keeps its extended headers.
pub(super) struct Tap<R> {
    source: R,
    found: Found,
    /// What is there of the header that is being read.
    header: Vec<u8>,
    /// Bytes until the next header.
    left: u64,
    /// Bytes of those that are an extended header.
    keep: u64,
    kept: Vec<u8>,
    /// Size of the next entry, if its own header has no room for it.
    size: Option<u64>,
    /// Bytes of content behind further blocks of a map of a sparse file.
    mapped: Option<u64>,
}

impl<R: Read> Tap<R> {
    pub(super) fn new(source: R) -> (Self, Found) {
        let found = Found::default();
        let tap = Self {
            source,
            found: found.clone(),
            header: Vec::with_capacity(BLOCK),
            left: 0,
            keep: 0,
            kept: Vec::new(),
            size: None,
            mapped: None,
        };
        (tap, found)
    }

    fn pass(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = if self.left == 0 { self.pass_header(bytes)? } else { self.pass_content(bytes)? };
            bytes = &bytes[count..];
        }
        Ok(())
    }

    fn pass_content(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.left -= count as u64;
        if self.keep > 0 {
            let keep = usize::try_from(self.keep).unwrap_or(usize::MAX).min(count);
            self.kept.extend_from_slice(&bytes[..keep]);
            self.keep -= keep as u64;
            if self.keep == 0 {
                let records = Records::parse(&std::mem::take(&mut self.kept))?;
                self.size = records.number("size");
                self.found.0.replace(records);
            }
        }
        Ok(count)
    }

    fn pass_header(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = (BLOCK - self.header.len()).min(bytes.len());
        self.header.extend_from_slice(&bytes[..count]);
        if self.header.len() == BLOCK {
            let block = std::mem::take(&mut self.header);
            self.complete(&block)?;
        }
        Ok(count)
    }

    fn complete(&mut self, block: &[u8]) -> io::Result<()> {
        let filled = |size: u64| size.div_ceil(BLOCK as u64) * BLOCK as u64;
        if let Some(content) = self.mapped.take() {
            // The byte behind the map tells whether there is more of it.
            if block[504] == 0 {
                self.left = filled(content);
            } else {
                self.mapped = Some(content);
            }
            return Ok(());
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let header = Header::from_byte_slice(block);
        let size = header.entry_size()?;
        match header.entry_type() {
            EntryType::XHeader if size <= MAX_RECORDS => self.keep = size,
            EntryType::XHeader => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "an extended header is too large"));
            }
            EntryType::XGlobalHeader | EntryType::GNULongName | EntryType::GNULongLink => {}
            kind => {
                let size = self.size.take().unwrap_or(size);
                let more = kind == EntryType::GNUSparse && header.as_gnu().is_some_and(tar::GnuHeader::is_extended);
                if more {
                    self.mapped = Some(size);
                } else {
                    self.left = filled(size);
                }
                return Ok(());
            }
        }
        self.left = filled(size);
        Ok(())
    }
}

impl<R: Read> Read for Tap<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.pass(&buffer[..count])?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_end_where_their_length_says() {
        let records = Records::parse(b"16 a=one\n9 b=2\n\n11 size=12\n").unwrap();
        assert_eq!(records.get("a"), Some(&b"one\n9 b=2\n"[..]));
        assert_eq!((records.get("b"), records.number("size")), (None, Some(12)));
    }

    #[test]
    fn damaged_records_are_refused() {
        for text in ["3 a=b\n", "99 a=b\n", "6 a=bc", "x a=b\n", "5 ab\n", "6"] {
            assert!(Records::parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
