//! Files with holes in every format of GNU tar, valid ones and damaged ones.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use tar::{EntryType, GnuExtSparseHeader, Header};
use tempfile::TempDir;

use super::unpack::unpack;

/// Random numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Old,
    V00,
    V01,
    V10,
}

const FORMS: [Form; 4] = [Form::Old, Form::V00, Form::V01, Form::V10];

/// A file with holes, as a layer describes it.
#[derive(Debug, Clone)]
struct Holes {
    size: u64,
    parts: Vec<(u64, u64)>,
    data: Vec<u8>,
}

impl Holes {
    fn random(random: &mut Random) -> Self {
        let mut holes = Self { size: 0, parts: Vec::new(), data: Vec::new() };
        for _ in 0..=random.below(70) {
            let offset = holes.size + random.below(3) as u64 * random.below(30_000) as u64;
            let length = random.below(3) * random.below(900);
            holes.parts.push((offset, length as u64));
            holes.data.extend((0..length).map(|_| u8::try_from(random.below(255)).unwrap() + 1));
            holes.size = offset + length as u64;
        }
        holes.size += random.below(2) as u64 * random.below(200_000) as u64;
        holes
    }

    fn content(&self) -> Vec<u8> {
        let mut content = vec![0; usize::try_from(self.size).unwrap()];
        let mut data = self.data.as_slice();
        for (offset, length) in &self.parts {
            let (offset, length) = (usize::try_from(*offset).unwrap(), usize::try_from(*length).unwrap());
            content[offset..offset + length].copy_from_slice(&data[..length]);
            data = &data[length..];
        }
        content
    }

    /// The tar of a layer with this file, called `file`, and another one after it.
    fn layer(&self, form: Form) -> Vec<u8> {
        let numbers: Vec<String> =
            self.parts.iter().flat_map(|(offset, length)| [offset.to_string(), length.to_string()]).collect();
        let count = self.parts.len().to_string();
        let size = self.size.to_string();
        let mut records = Vec::new();
        let mut add = |key: &str, value: &str| records.extend(record(&format!("GNU.sparse.{key}"), value));
        match form {
            Form::Old => return self.old_layer(),
            Form::V00 => {
                add("size", &size);
                add("numblocks", &count);
                for part in numbers.chunks(2) {
                    add("offset", &part[0]);
                    add("numbytes", &part[1]);
                }
            }
            Form::V01 => {
                add("major", "0");
                add("minor", "1");
                add("name", "file");
                add("size", &size);
                add("numblocks", &count);
                add("map", &numbers.join(","));
            }
            Form::V10 => {
                add("major", "1");
                add("minor", "0");
                add("name", "file");
                add("realsize", &size);
            }
        }
        let mut content = Vec::new();
        if form == Form::V10 {
            content = std::iter::once(count).chain(numbers).map(|number| number + "\n").collect::<String>().into();
            fill(&mut content);
        }
        content.extend_from_slice(&self.data);
        let name = if form == Form::V00 { "file" } else { "GNUSparseFile.7/file" };
        let mut layer = entry(EntryType::XHeader, "pax", &records);
        layer.extend(entry(EntryType::Regular, name, &content));
        end(layer)
    }

    fn old_layer(&self) -> Vec<u8> {
        let mut header = header(EntryType::GNUSparse, "file", self.data.len());
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(self.size);
        let first = self.parts.len().min(4);
        for (place, part) in gnu.sparse.iter_mut().zip(&self.parts) {
            place.set_offset(part.0);
            place.set_length(part.1);
        }
        let mut more = self.parts[first..].chunks(21).peekable();
        gnu.set_is_extended(more.peek().is_some());
        header.set_cksum();
        let mut layer = header.as_bytes().to_vec();
        while let Some(parts) = more.next() {
            let mut block = GnuExtSparseHeader::new();
            for (place, part) in block.sparse_mut().iter_mut().zip(parts) {
                place.set_offset(part.0);
                place.set_length(part.1);
            }
            block.set_is_extended(more.peek().is_some());
            layer.extend_from_slice(block.as_bytes());
        }
        layer.extend_from_slice(&self.data);
        fill(&mut layer);
        end(layer)
    }
}

fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let digits = (1..9).find(|digits| (rest + digits).to_string().len() == *digits).unwrap();
    format!("{} {key}={value}\n", rest + digits).into_bytes()
}

fn header(kind: EntryType, name: &str, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_path(name).unwrap();
    header.set_mode(0o644);
    header.set_uid(rustix::process::getuid().as_raw().into());
    header.set_gid(rustix::process::getgid().as_raw().into());
    header.set_mtime(1);
    header.set_size(size as u64);
    header.set_cksum();
    header
}

fn fill(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(512), 0);
}

fn entry(kind: EntryType, name: &str, content: &[u8]) -> Vec<u8> {
    let mut entry = header(kind, name, content.len()).as_bytes().to_vec();
    entry.extend_from_slice(content);
    fill(&mut entry);
    entry
}

fn end(mut layer: Vec<u8>) -> Vec<u8> {
    layer.extend(entry(EntryType::Regular, "behind", b"it"));
    layer.extend([0; 1024]);
    layer
}

/// Unpacks into a directory inside another one, so that a write to the outside shows.
fn unpacked(layer: &[u8]) -> (TempDir, io::Result<()>) {
    let outside = tempfile::tempdir().unwrap();
    let inside = outside.path().join("layer");
    fs::create_dir(&inside).unwrap();
    let result = unpack(layer, &inside).map(drop);
    (outside, result)
}

/// The size of a directory on disk, bytes.
fn held(path: &std::path::Path) -> u64 {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let data = entry.metadata().unwrap();
            data.blocks() * 512 + if data.is_dir() { held(&entry.path()) } else { 0 }
        })
        .sum()
}

#[test]
fn every_form_gives_the_same_file_and_what_follows_it() {
    let mut random = Random(1);
    let mut longest = 0;
    for _ in 0..60 {
        let holes = Holes::random(&mut random);
        longest = longest.max(holes.parts.len());
        let content = holes.content();
        for form in FORMS {
            let (directory, result) = unpacked(&holes.layer(form));
            result.unwrap_or_else(|source| panic!("{form:?}, {holes:?}: {source}"));
            let layer = directory.path().join("layer");
            assert!(fs::read(layer.join("file")).unwrap() == content, "{form:?}, {holes:?}");
            assert_eq!(fs::read(layer.join("behind")).unwrap(), b"it");
            assert_eq!(fs::read_dir(layer).unwrap().count(), 2);
        }
    }
    assert!(longest > 4 + 2 * 21, "maps of the old format in three blocks");
}

#[test]
fn holes_take_no_space() {
    let size = 1 << 40;
    let holes = Holes { size, parts: vec![(0, 3), (size / 2, 4)], data: b"oneFour".to_vec() };
    for form in FORMS {
        let (directory, result) = unpacked(&holes.layer(form));
        result.unwrap();
        let file = fs::metadata(directory.path().join("layer/file")).unwrap();
        assert_eq!(file.len(), size, "{form:?}");
        assert!(file.blocks() * 512 <= 64 << 10, "{form:?}: {}", file.blocks());
    }
}

#[test]
fn what_gnu_tar_packs_comes_out_as_it_went_in() {
    let directory = tempfile::tempdir().unwrap();
    let mut content = vec![0; 700_000];
    for part in 0..30 {
        content[part * 20_480..part * 20_480 + 4096].fill(u8::try_from(part + 1).unwrap());
    }
    let file = fs::File::create(directory.path().join("file")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &content[..4096], 0).unwrap();
    for part in 1..30 {
        let range = part * 20_480..part * 20_480 + 4096;
        std::os::unix::fs::FileExt::write_all_at(&file, &content[range.clone()], range.start as u64).unwrap();
    }
    file.set_len(700_000).unwrap();
    for arguments in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let mut command = Command::new("tar");
        command.args(["--create", "--sparse"]).args(arguments).arg("--directory").arg(directory.path()).arg("file");
        // Another tar, or none: the test proves nothing here.
        let Some(packed) = command.output().ok().filter(|output| output.status.success()) else { return };
        assert!(packed.stdout.len() < 300_000, "{arguments:?}: it is not sparse");
        let (directory, result) = unpacked(&packed.stdout);
        result.unwrap();
        assert!(fs::read(directory.path().join("layer/file")).unwrap() == content, "{arguments:?}");
    }
}

#[test]
fn maps_that_do_not_fit_are_refused_with_the_reason() {
    let max = u64::MAX >> 1;
    let holes = |size, parts: &[(u64, u64)]| Holes { size, parts: parts.to_vec(), data: vec![1; 600] };
    for (holes, why) in [
        (holes(1000, &[(0, 300), (200, 300)]), "overlap"),
        (holes(2000, &[(1000, 300), (0, 300)]), "not in order"),
        (holes(599, &[(0, 600)]), "beyond the end of the file"),
        (holes(9000, &[(0, 599)]), "have 599 bytes, but the content has 600"),
        (holes(9000, &[(0, 600), (700, 1)]), "have 601 bytes, but the content has 600"),
        (holes(max, &[(max - 1, 2), (max, 598)]), "impossible offset"),
    ] {
        for form in FORMS {
            let (directory, result) = unpacked(&holes.layer(form));
            let message = result.unwrap_err().to_string();
            let counted = message.contains(why);
            assert!(counted && message.contains("file` is damaged"), "{form:?}: {message}");
            assert_eq!(fs::read_dir(directory.path().join("layer")).unwrap().count(), 0, "{form:?}");
        }
    }
    let too_large = Holes { size: max, parts: vec![(0, 600)], data: vec![1; 600] };
    for form in FORMS {
        let message = unpacked(&too_large.layer(form)).1.unwrap_err();
        assert_eq!(message.kind(), io::ErrorKind::FileTooLarge, "{form:?}: {message}");
    }
}

#[test]
fn maps_without_an_end_are_refused_and_not_kept() {
    let begin =
        [record("GNU.sparse.major", "1"), record("GNU.sparse.minor", "0"), record("GNU.sparse.realsize", "5")].concat();
    for (map, why) in [
        ([b"999999999\n".to_vec(), b"0\n".repeat(1 << 20)].concat(), "too long"),
        (b"9223372036854775807\n".to_vec(), "is cut off"),
        (vec![b'1'; 3 << 20], "too long"),
        (b"-1\n".to_vec(), "`-1`"),
        (b"2\n0\n1\n".to_vec(), "is cut off"),
        (b"x\n".to_vec(), "`x`"),
    ] {
        let mut map: Vec<u8> = map;
        fill(&mut map);
        let mut layer = entry(EntryType::XHeader, "pax", &begin);
        layer.extend(entry(EntryType::Regular, "file", &map));
        let message = unpacked(&end(layer)).1.unwrap_err().to_string();
        assert!(message.contains(why), "{message}");
    }
    let mut endless = header(EntryType::GNUSparse, "file", 0);
    endless.as_gnu_mut().unwrap().set_is_extended(true);
    endless.set_cksum();
    let mut layer = endless.as_bytes().to_vec();
    let mut block = GnuExtSparseHeader::new();
    block.set_is_extended(true);
    (0..5000).for_each(|_| layer.extend_from_slice(block.as_bytes()));
    assert!(unpacked(&layer).1.unwrap_err().to_string().contains("too long"));
}

#[test]
fn a_version_that_nobody_knows_is_any_file() {
    let mut records = [record("GNU.sparse.major", "2"), record("GNU.sparse.minor", "0")].concat();
    records.extend(record("GNU.sparse.name", "other"));
    let mut layer = entry(EntryType::XHeader, "pax", &records);
    layer.extend(entry(EntryType::Regular, "file", b"content"));
    let (directory, result) = unpacked(&end(layer));
    result.unwrap();
    assert_eq!(fs::read(directory.path().join("layer/file")).unwrap(), b"content");
}

/// Changes of a few bytes each, anywhere in the headers and maps, with corrected checksums.
#[test]
fn damaged_layers_never_panic_nor_write_outside_nor_take_more_space_than_they_have() {
    let mut random = Random(7);
    let (mut refused, mut taken) = (0, 0);
    for round in 0..2000 {
        let form = FORMS[round % 4];
        let mut holes = Holes::random(&mut random);
        holes.parts.truncate(1 + random.below(30));
        holes.data.truncate(usize::try_from(holes.parts.iter().map(|part| part.1).sum::<u64>()).unwrap());
        let mut layer = holes.layer(form);
        let (size, parts) = (layer.len(), holes.parts.len());
        for _ in 0..=random.below(4) {
            let place = random.below(size.min(4096));
            let text = b"0123456789,\n=. -GNx/\0\x80\xff";
            layer[place] = match random.below(3) {
                0 => u8::try_from(random.below(256)).unwrap(),
                _ => text[random.below(text.len())],
            };
        }
        if random.below(5) == 0 {
            layer.truncate(random.below(size));
        }
        correct(&mut layer);
        let (directory, result) = unpacked(&layer);
        *if result.is_ok() { &mut taken } else { &mut refused } += 1;
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "round {round}");
        let most = size as u64 + (parts as u64 + 20) * (8 << 10);
        let held = held(&directory.path().join("layer"));
        assert!(held <= most, "round {round}: {held} bytes of {most}");
    }
    assert!(refused > 300 && taken > 300, "{refused} were refused, {taken} taken");
}

/// Corrects the checksums of everything that may be a header.
fn correct(layer: &mut [u8]) {
    for block in layer.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        let sum: u32 = block[..148].iter().chain(b"        ").chain(&block[156..]).map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
