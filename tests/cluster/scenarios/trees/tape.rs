//! Writes the tar of a layer, with every way that tar has to say something.

use std::borrow::Cow;
use std::io::Write;

use tar::{Builder, EntryType, Header};

use super::random::Random;

/// Names and targets up to this length fit into a header.
const SHORT: usize = 100;

/// What a file is, apart from its name and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
    pub(super) xattrs: Vec<(&'static str, Vec<u8>)>,
}

impl Attributes {
    /// As a directory that no one has said anything about.
    pub(super) const PLAIN: Self =
        Self { mode: 0o755, uid: 0, gid: 0, seconds: 1_700_000_000, nanoseconds: 0, xattrs: Vec::new() };

    /// Whether someone who makes the directory without being told how makes the same.
    pub(super) fn is_plain(&self) -> bool {
        self.mode == 0o755 && self.uid == 0 && self.gid == 0 && self.xattrs.is_empty()
    }

    pub(super) fn random(random: &mut Random, kind: EntryType) -> Self {
        let modes: &[u32] = match kind {
            EntryType::Directory => &[0o755, 0o755, 0o755, 0o700, 0o1777, 0o2775, 0o000],
            _ => &[0o644, 0o644, 0o755, 0o600, 0o4755, 0o2755, 0o6711, 0o444, 0o000],
        };
        let owner = |random: &mut Random| *random.of(&[0, 0, 0, 0, 33, 1000, 65534, 2_097_152, 4_000_000_000]);
        // Before the epoch engines differ for links, of which no one knows a time.
        let early = if matches!(kind, EntryType::Regular) { -86_400 } else { 0 };
        let mut xattrs = Vec::new();
        if matches!(kind, EntryType::Regular | EntryType::Directory) && random.one_in(5) {
            let size = 1 + random.below(40);
            xattrs.push(("user.note", random.bytes(size)));
            if random.one_in(3) {
                xattrs.push(("user.ä", b"\0zero, = and\n9 a=b\n".to_vec()));
            }
            if random.one_in(3) {
                xattrs.push(("trusted.note", Vec::from("of the administrator")));
            }
        }
        if matches!(kind, EntryType::Regular) && random.one_in(8) {
            // As setcap writes it: cap_dac_override,cap_fowner,cap_net_bind_service=ep, with a line break in it.
            let capability = [1, 0, 0, 2, 10, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            xattrs.push(("security.capability", capability.to_vec()));
        }
        Self {
            mode: *random.of(modes),
            uid: owner(random),
            gid: owner(random),
            seconds: *random.of(&[0, 1, 1_700_000_000, 1_234_567_890, 4_102_444_800, early]),
            nanoseconds: *random.of(&[0, 0, 1, 999_999_999, 120_000_000]),
            xattrs,
        }
    }
}

/// The tar of a layer that is being written.
pub(super) struct Tape {
    builder: Builder<Vec<u8>>,
    /// Files may be written with their holes.
    pub(super) sparse: bool,
    /// How many were.
    pub(super) holes: usize,
}

impl Tape {
    pub(super) fn new(sparse: bool) -> Self {
        Self { builder: Builder::new(Vec::new()), sparse, holes: 0 }
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, String> {
        self.builder.into_inner().map_err(|error| error.to_string())
    }

    /// Adds an entry, in a way that depends on chance where tar has several.
    pub(super) fn add(
        &mut self,
        random: &mut Random,
        (kind, name, link): (EntryType, &[u8], &[u8]),
        attributes: &Attributes,
        content: &[u8],
        device: (u32, u32),
    ) -> Result<(), String> {
        let mut name = name.to_vec();
        if kind == EntryType::Directory {
            name.push(b'/');
        }
        if random.one_in(6) && name.len() < SHORT - 2 {
            name.splice(0..0, *b"./");
        }
        let utf8 = std::str::from_utf8(&name).is_ok() && std::str::from_utf8(link).is_ok() && !name.contains(&b'\n');
        let pax = utf8 && random.one_in(2);
        let mut records = records(attributes);
        let mut content = Cow::Borrowed(content);
        if self.sparse && kind == EntryType::Regular && !content.is_empty() && random.one_in(2) {
            let left = with_holes(random, &content, &mut name, utf8, &mut records);
            // If nothing is left out, engines write it as it was.
            self.holes += usize::from(left.len() != content.len());
            content = Cow::Owned(left);
        }
        for (text, key, gnu) in [(&name[..], "path", b'L'), (link, "linkpath", b'K')] {
            if text.len() <= SHORT {
                continue;
            }
            if pax {
                records.push((key.to_owned(), text.to_vec()));
            } else {
                self.long(gnu, text)?;
            }
        }
        if !records.is_empty() {
            let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
            self.builder.append_pax_extensions(records).map_err(|error| error.to_string())?;
        }
        let header = full_header(header(kind, &name, link, content.len()), kind, attributes, device)?;
        self.builder.append(&header, &*content).map_err(|error| error.to_string())
    }

    /// The long name of the next entry, in GNU's way.
    fn long(&mut self, kind: u8, text: &[u8]) -> Result<(), String> {
        let mut content = text.to_vec();
        content.push(0);
        let mut header = header(EntryType::new(kind), b"././@LongLink", b"", content.len());
        header.set_cksum();
        self.builder.append(&header, content.as_slice()).map_err(|error| error.to_string())
    }
}

/// The PAX records of attributes that a header has no room for.
fn records(attributes: &Attributes) -> Vec<(String, Vec<u8>)> {
    let xattrs = attributes.xattrs.iter();
    let mut records: Vec<_> = xattrs.map(|(key, value)| (format!("SCHILY.xattr.{key}"), value.clone())).collect();
    if attributes.nanoseconds > 0 || attributes.seconds < 0 {
        // Before the epoch a fraction counts downwards; none is written there.
        let fraction = if attributes.seconds < 0 { String::new() } else { format!(".{:09}", attributes.nanoseconds) };
        records.push(("mtime".to_owned(), format!("{}{fraction}", attributes.seconds).into_bytes()));
    }
    records
}

/// A header with the attributes of its entry.
fn full_header(
    mut header: Header,
    kind: EntryType,
    attributes: &Attributes,
    device: (u32, u32),
) -> Result<Header, String> {
    header.set_mode(attributes.mode);
    header.set_uid(attributes.uid);
    header.set_gid(attributes.gid);
    header.set_mtime(u64::try_from(attributes.seconds).unwrap_or_default());
    if matches!(kind, EntryType::Char | EntryType::Block) {
        header.set_device_major(device.0).map_err(|error| error.to_string())?;
        header.set_device_minor(device.1).map_err(|error| error.to_string())?;
    }
    header.set_cksum();
    Ok(header)
}

fn header(kind: EntryType, name: &[u8], link: &[u8], size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size as u64);
    let old = header.as_old_mut();
    // What is cut off here was written before.
    let _ = (&mut old.name[..]).write(name);
    let _ = (&mut old.linkname[..]).write(link);
    header
}

/// Leaves the holes of a file out, in one of the ways of GNU tar; returns what is left of it.
fn with_holes(
    random: &mut Random,
    content: &[u8],
    name: &mut Vec<u8>,
    utf8: bool,
    records: &mut Vec<(String, Vec<u8>)>,
) -> Vec<u8> {
    let mut numbers = Vec::new();
    let mut left = Vec::new();
    let mut begin = 0;
    while begin < content.len() {
        let part = &content[begin..content.len().min(begin + 1 + random.below(9000))];
        if part.iter().any(|byte| *byte != 0) || random.one_in(9) {
            numbers.extend([begin, part.len()]);
            left.extend_from_slice(part);
        }
        begin += part.len();
    }
    if numbers.is_empty() || random.one_in(2) {
        numbers.extend([content.len(), 0]);
    }
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let mut add = |key: &str, value: String| records.push((format!("GNU.sparse.{key}"), value.into_bytes()));
    let (size, count) = (content.len().to_string(), (numbers.len() / 2).to_string());
    let version = if utf8 { random.below(3) } else { 0 };
    match version {
        0 => {
            add("size", size);
            add("numblocks", count);
            for part in numbers.chunks(2) {
                add("offset", part[0].clone());
                add("numbytes", part[1].clone());
            }
        }
        1 => {
            add("size", size);
            add("numblocks", count);
            add("map", numbers.join(","));
        }
        _ => {
            add("major", "1".to_owned());
            add("minor", "0".to_owned());
            add("realsize", size);
            let mut map: Vec<u8> = [vec![count], numbers].concat().join("\n").into_bytes();
            map.push(b'\n');
            map.resize(map.len().next_multiple_of(512), 0);
            left.splice(0..0, map);
        }
    }
    if version > 0 {
        // Programs that do not know of holes shall see that it is not the file.
        let shown = std::mem::replace(name, b"GNUSparseFile.0/part".to_vec());
        records.push(("GNU.sparse.name".to_owned(), shown));
    }
    left
}
