//! Files with holes, as GNU tar writes them: the archive has only what is between the holes, and a map of its places. The
//! map is in the entry's header (old GNU), in its extended header (0.0 and 0.1), or before its content (1.0).

use std::io::{self, Read};

use tar::{GnuExtSparseHeader, GnuHeader, GnuSparseHeader};

use super::pax::{Records, number};

/// The unit of an archive, bytes.
const BLOCK: usize = 512;
/// The largest map, bytes. An extended header with a map has the same limit.
const MAX_MAP: usize = 1 << 20;
/// The prefix of all keys for sparse files in an extended header.
const KEY: &str = "GNU.sparse.";
/// The name of a sparse file, if its entry has another one for programs that do not support these.
pub(super) const NAME: &str = "GNU.sparse.name";

/// The places of the content of a file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Sparse {
    /// The size of the file with its holes, bytes.
    pub size: u64,
    /// The parts that are not holes, by offset and length: in order, without overlaps, and inside the file.
    pub parts: Vec<(u64, u64)>,
}

impl Sparse {
    /// The map of an entry in the old format. What does not fit into its header follows it, block by block.
    pub(super) fn of_header(
        header: &GnuHeader,
        mut more: impl FnMut(&mut [u8; BLOCK]) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut parts = Vec::new();
        take(&header.sparse, &mut parts)?;
        let mut extended = header.isextended[0] != 0;
        let mut length = 0;
        while extended {
            length += BLOCK;
            if length > MAX_MAP {
                return Err(damaged("it is too long"));
            }
            let mut block = GnuExtSparseHeader::new();
            more(block.as_mut_bytes())?;
            take(block.sparse(), &mut parts)?;
            extended = block.isextended[0] != 0;
        }
        Ok(Self { size: header.real_size()?, parts })
    }

    /// The map of a regular file, if it is sparse.
    pub(super) fn of_records(records: &Records, physical: u64, content: &mut impl Read) -> io::Result<Option<Self>> {
        let get = |name: &str| records.get(&format!("{KEY}{name}")).unwrap_or_default();
        let pairs = pairs(records)?;
        let before = match (get("major"), get("minor")) {
            (b"1", b"0") => false,
            (b"0", b"0" | b"1") => true,
            (b"", b"") if !pairs.is_empty() || !get("map").is_empty() => true,
            // Not a sparse file, or a version that engines do not support: they treat it as a normal file.
            _ => return Ok(None),
        };
        let size = [get("size"), get("realsize")].into_iter().find(|size| !size.is_empty());
        let size = size.map_or(Ok(physical), number)?;
        let numbers = if !before {
            leading(content)?
        } else if pairs.is_empty() {
            split(get("map"))?
        } else {
            pairs
        };
        if before && number(get("numblocks"))?.checked_mul(2) != Some(numbers.len() as u64) {
            return Err(damaged("its length differs from the one that it gives"));
        }
        let parts = numbers.chunks_exact(2).map(|part| (part[0], part[1])).collect();
        Ok(Some(Self { size, parts }))
    }

    /// Rejects a map that contradicts itself or the content of the archive.
    pub(super) fn check(self, physical: u64) -> io::Result<Self> {
        let (mut end, mut sum) = (0, 0);
        for (offset, length) in &self.parts {
            if *offset < end {
                return Err(damaged("its parts overlap or are not in order"));
            }
            // Engines use signed numbers.
            let next = offset.checked_add(*length).filter(|next| i64::try_from(*next).is_ok());
            end = next.ok_or_else(|| damaged("a part ends at an impossible offset"))?;
            sum += length;
        }
        if i64::try_from(self.size).is_err() || end > self.size {
            return Err(damaged("a part is beyond the end of the file"));
        }
        if sum != physical {
            return Err(damaged(format!("its parts have {sum} bytes, but the content has {physical}")));
        }
        Ok(self)
    }
}

pub(super) fn damaged(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// Adds the parts of one block, which end at an empty field.
fn take(block: &[GnuSparseHeader], parts: &mut Vec<(u64, u64)>) -> io::Result<()> {
    for part in block.iter().take_while(|part| part.offset[0] != 0) {
        let length = if part.numbytes[0] == 0 { 0 } else { part.length()? };
        parts.push((part.offset()?, length));
    }
    Ok(())
}

/// Offsets and lengths in alternating records.
fn pairs(records: &Records) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for (key, value) in records.iter() {
        let is_length = match key.strip_prefix(KEY) {
            Some("offset") => false,
            Some("numbytes") => true,
            _ => continue,
        };
        if is_length != (numbers.len() % 2 == 1) {
            return Err(damaged("offsets and lengths do not alternate"));
        }
        numbers.push(number(value)?);
    }
    Ok(numbers)
}

/// Offsets and lengths in one record.
fn split(map: &[u8]) -> io::Result<Vec<u64>> {
    if map.is_empty() { Ok(Vec::new()) } else { map.split(|byte| *byte == b',').map(number).collect() }
}

/// The map before the content: the number of parts, then their offsets and lengths, one per line, in whole blocks.
fn leading(content: &mut impl Read) -> io::Result<Vec<u64>> {
    let mut text = Vec::new();
    let mut lines = |count: u64| -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        let mut begin = 0;
        while (numbers.len() as u64) < count {
            match text[begin..].iter().position(|byte| *byte == b'\n') {
                Some(length) => {
                    numbers.push(number(&text[begin..begin + length])?);
                    begin += length + 1;
                }
                None if text.len() >= MAX_MAP => return Err(damaged("it is too long")),
                None => {
                    let end = text.len();
                    text.resize(end + BLOCK, 0);
                    let read = content.read_exact(&mut text[end..]);
                    read.map_err(|source| io::Error::new(source.kind(), "it is cut off"))?;
                }
            }
        }
        text.drain(..begin);
        Ok(numbers)
    };
    let count = lines(1)?[0];
    lines(count.checked_mul(2).ok_or_else(|| damaged("it is too long"))?)
}
