//! Reads a tar entry by entry, in the same way as Go's `archive/tar`, with which engines and containerd read layers: what
//! they accept is accepted, with the same names and content, and what they reject is rejected.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::pax::Records;
use super::sparse::{NAME, Sparse, damaged};

/// The size of a header, and the unit to which contents are padded, bytes.
const BLOCK: usize = 512;
/// The largest size of names and extended headers, bytes.
const MAX_SPECIAL: u64 = 1 << 20;

/// What an archive has about a file, before its content.
#[derive(Debug)]
pub(super) struct Entry {
    pub header: Header,
    pub extended: Records,
    pub kind: EntryType,
    pub path: Vec<u8>,
    /// The target of a link.
    pub link: Vec<u8>,
    /// The places of the content in a file with holes.
    pub sparse: Option<Sparse>,
}

/// The entries of an archive.
pub(super) struct Entries<R> {
    source: R,
    /// Bytes of the content of this entry that were not read yet.
    left: u64,
    /// Bytes of its padding.
    padding: u64,
}

/// What extension entries contain about the next entry.
#[derive(Default)]
struct Before {
    extended: Records,
    path: Vec<u8>,
    link: Vec<u8>,
}

impl<R: Read> Entries<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, left: 0, padding: 0 }
    }

    /// The next entry; what was not read of the previous one is skipped.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut before = Before::default();
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            self.begin(number(&header.as_old().size, header.entry_size())?)?;
            match header.entry_type() {
                EntryType::XHeader => before.extended = Records::parse(&self.special()?)?,
                EntryType::GNULongName => before.path = name(self.special()?),
                EntryType::GNULongLink => before.link = name(self.special()?),
                EntryType::XGlobalHeader => {
                    Records::parse(&self.special()?)?;
                    before = Before::default();
                }
                _ => return self.entry(header, before).map(Some),
            }
        }
    }

    fn entry(&mut self, header: Header, before: Before) -> io::Result<Entry> {
        let Before { extended, path, link } = before;
        let first = |named: Vec<u8>, key: &str| {
            if named.is_empty() { extended.get(key).map(<[u8]>::to_vec) } else { Some(named) }
        };
        let path = first(path, "path").unwrap_or_else(|| header.path_bytes().into_owned());
        let link = first(link, "linkpath").or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let is_old = header.as_old().linkflag[0] == 0;
        let kind = if is_old && path.ends_with(b"/") { EntryType::Directory } else { header.entry_type() };
        if let Some(size) = extended.number("size")? {
            self.begin(size)?;
        }
        if has_no_content(kind) {
            self.begin(0)?;
        }
        let mut entry = Entry { header, extended, kind, path, link: link.unwrap_or_default(), sparse: None };
        self.sparse(&mut entry).map_err(|source| {
            let text = format!("the map of the sparse file `{}` is damaged: {source}", entry.path.escape_ascii());
            io::Error::new(source.kind(), text)
        })?;
        Ok(entry)
    }

    /// Reads the map of a file with holes.
    fn sparse(&mut self, entry: &mut Entry) -> io::Result<()> {
        let map = if entry.kind == EntryType::GNUSparse {
            let header = entry.header.as_gnu().ok_or_else(|| damaged("its header has another format"))?;
            let cut = |source: io::Error| io::Error::new(source.kind(), "it is cut off");
            Sparse::of_header(header, |block| self.source.read_exact(block).map_err(cut))?
        } else {
            let physical = self.left;
            let Some(map) = Sparse::of_records(&entry.extended, physical, &mut self.content())? else {
                return Ok(());
            };
            if has_no_content(entry.kind) {
                return Err(damaged("it is not a file"));
            }
            if let Some(name) = entry.extended.get(NAME) {
                entry.path = name.to_vec();
            }
            map
        };
        entry.sparse = Some(map.check(self.left)?);
        Ok(())
    }

    /// The rest of the entry's content.
    pub(super) fn content(&mut self) -> Content<'_, R> {
        Content(self)
    }

    fn begin(&mut self, size: u64) -> io::Result<()> {
        if i64::try_from(size).is_err() {
            return Err(damaged("a file of the layer has an impossible size"));
        }
        let block = BLOCK as u64;
        (self.left, self.padding) = (size, size.next_multiple_of(block) - size);
        Ok(())
    }

    /// The next header; `None` at the end of the archive.
    fn header(&mut self) -> io::Result<Option<Header>> {
        io::copy(&mut self.content(), &mut io::sink())?;
        let padding = std::mem::take(&mut self.padding);
        io::copy(&mut self.source.by_ref().take(padding), &mut io::sink())?;
        let Some(block) = self.block()? else { return Ok(None) };
        if is_zero(&block) {
            return match self.block()? {
                Some(block) if !is_zero(&block) => Err(damaged("the layer continues after its end")),
                _ => Ok(None),
            };
        }
        let header = Header::from_byte_slice(&block).clone();
        // The checksum field itself counts as blanks.
        let others = || block[..148].iter().chain(b"        ").chain(&block[156..]);
        let unsigned: i64 = others().map(|byte| i64::from(*byte)).sum();
        let signed: i64 = others().map(|byte| i64::from(byte.cast_signed())).sum();
        if !header.cksum().is_ok_and(|sum| [unsigned, signed].contains(&i64::from(sum))) {
            return Err(damaged("the layer is not a tar archive, or one of its headers is damaged"));
        }
        Ok(Some(header))
    }

    /// That many bytes; `None` at the end of the source.
    fn block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let first = loop {
            match self.source.read(&mut block) {
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        if first == 0 {
            return Ok(None);
        }
        self.source.read_exact(&mut block[first..])?;
        Ok(Some(block))
    }

    /// The content of an entry that describes the next one.
    fn special(&mut self) -> io::Result<Vec<u8>> {
        if self.left > MAX_SPECIAL {
            return Err(damaged("an extended header of the layer is too large"));
        }
        let mut content = Vec::new();
        self.content().read_to_end(&mut content)?;
        Ok(content)
    }
}

/// Reads the content of an entry, and fails if it ends early.
pub(super) struct Content<'a, R>(&'a mut Entries<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.0.left).unwrap_or(usize::MAX).min(buffer.len());
        if left == 0 {
            return Ok(0);
        }
        let count = self.0.source.read(&mut buffer[..left])?;
        self.0.left -= count as u64;
        if count == 0 { Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the layer is cut off")) } else { Ok(count) }
    }
}

/// Whether the size in the header of such an entry has no meaning.
fn has_no_content(kind: EntryType) -> bool {
    use EntryType::{Block, Char, Directory, Fifo, Link, Symlink};
    matches!(kind, Link | Symlink | Char | Block | Directory | Fifo)
}

/// A name ends with its first zero.
fn name(mut text: Vec<u8>) -> Vec<u8> {
    text.truncate(text.iter().position(|byte| *byte == 0).unwrap_or(text.len()));
    text
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// A number in a header; an empty field is 0, as in engines.
pub(super) fn number<T: Default>(field: &[u8], read: io::Result<T>) -> io::Result<T> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(T::default()) } else { read }
}
