//! Layers as builders write them, and malicious ones. Tests that need root are skipped without it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::adopt::complete;
use super::unpack::{Unpacked, unpack};

/// A layer under construction; its files belong to the user who runs the test.
struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn entry(mut self, kind: EntryType, path: &str, mode: u32, link: Option<&str>, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_000_000_000);
        header.set_uid(rustix::process::getuid().as_raw().into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        header.set_size(content.len() as u64);
        match link {
            Some(target) => self.0.append_link(&mut header, path, target).unwrap(),
            // Names that no builder writes, but that are possible.
            None if path.contains("..") => {
                header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
                header.set_cksum();
                self.0.append(&header, content).unwrap();
            }
            None => self.0.append_data(&mut header, path, content).unwrap(),
        }
        self
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, path, 0o644, None, content.as_bytes())
    }

    fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, path, mode, None, b"")
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, 0o777, Some(target), b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, 0o644, Some(target), b"")
    }

    /// Gives the last entry, which has no content, another group.
    fn owned_by(self, group: u64) -> Self {
        let mut tar = self.0.into_inner().unwrap();
        // Two blocks of zeros follow it.
        let place = tar.len() - 3 * 512;
        let mut header = Header::from_byte_slice(&tar[place..place + 512]).clone();
        header.set_gid(group);
        header.set_cksum();
        tar.truncate(place);
        tar.extend_from_slice(header.as_bytes());
        let mut builder = Builder::new(Vec::new());
        builder.get_mut().extend_from_slice(&tar);
        Self(builder)
    }

    fn unpack(self) -> (TempDir, std::io::Result<Unpacked>) {
        let target = tempfile::tempdir().unwrap();
        let unpacked = unpack(self.0.into_inner().unwrap().as_slice(), target.path());
        (target, unpacked)
    }

    fn unpacked(self) -> (TempDir, Unpacked) {
        let (target, unpacked) = self.unpack();
        (target, unpacked.unwrap())
    }
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

fn text(target: &TempDir, path: &str) -> String {
    fs::read_to_string(target.path().join(path)).unwrap()
}

#[test]
fn files_directories_and_links_have_what_the_layer_says() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let (target, found) = Layer::new()
        .directory("etc/", 0o750)
        .file("etc/empty", "")
        .file("./etc/text", "one")
        .link("etc/again", "etc/text")
        .symlink("etc/soft", "/absent/anywhere")
        .entry(EntryType::Regular, "etc/setuid", 0o4755, None, b"x")
        .directory(&format!("{}/", "d".repeat(120)), 0o755)
        .file(&long, "long")
        .unpacked();
    assert_eq!(found, Unpacked::default());
    let etc = fs::metadata(target.path().join("etc")).unwrap();
    assert_eq!((etc.mode() & 0o7777, etc.mtime()), (0o750, 1_000_000_000), "times are set after the last file");
    assert_eq!(text(&target, "etc/text"), "one");
    assert_eq!(fs::metadata(target.path().join("etc/empty")).unwrap().len(), 0);
    let inodes = ["etc/text", "etc/again"].map(|path| fs::metadata(target.path().join(path)).unwrap().ino());
    assert_eq!(inodes[0], inodes[1]);
    assert_eq!(fs::read_link(target.path().join("etc/soft")).unwrap(), Path::new("/absent/anywhere"));
    assert_eq!(fs::metadata(target.path().join("etc/setuid")).unwrap().mode() & 0o7777, 0o4755);
    assert_eq!(text(&target, &long), "long");
}

#[test]
fn nothing_is_written_outside_of_the_layer() {
    let outside = tempfile::tempdir().unwrap();
    let absolute = outside.path().display().to_string();
    let (target, _) = Layer::new()
        .symlink("out", &absolute)
        .file("out/file", "through an absolute link")
        .symlink("up", "../../../../..")
        .file("up/file", "through a relative link")
        .file("../../escape", "by name")
        .unpacked();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(text(&target, &format!("{}/file", absolute.trim_start_matches('/'))), "through an absolute link");
    assert_eq!(text(&target, "file"), "through a relative link");
    assert_eq!(text(&target, "escape"), "by name");
    let (_, refused) = Layer::new().link("passwd", "../../etc/passwd").unpack();
    assert!(refused.unwrap_err().to_string().contains("of the same layer"));
}

#[test]
fn what_comes_later_takes_the_place_of_what_was_there() {
    let (target, _) = Layer::new()
        .directory("a/", 0o755)
        .file("a/b", "below")
        .file("a", "a file now")
        .symlink("c", "elsewhere")
        .directory("c/", 0o700)
        .file("c/d", "below")
        .directory("c/", 0o755)
        .unpacked();
    assert_eq!(text(&target, "a"), "a file now");
    assert_eq!(text(&target, "c/d"), "below", "a directory that appears again keeps its files");
    assert_eq!(fs::metadata(target.path().join("c")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn what_is_taken_away_is_marked_as_the_kernel_wants_it() {
    if !is_root() {
        return;
    }
    let (target, found) = Layer::new()
        .directory("etc/", 0o755)
        .file("etc/.wh.gone", "")
        .file("etc/.wh.back", "")
        .file("etc/back", "anew")
        .file("etc/.wh.dir", "")
        .directory("etc/dir/", 0o755)
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/new", "new")
        .file(".wh..wh.plnk", "")
        .unpacked();
    let gone = fs::symlink_metadata(target.path().join("etc/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(text(&target, "etc/back"), "anew");
    let opaque = |path: &str| {
        let mut value = [0; 8];
        let path = target.path().join(path);
        rustix::fs::getxattr(path, "trusted.overlay.opaque", &mut value).is_ok_and(|size| &value[..size] == b"y")
    };
    assert!(opaque("opaque") && opaque("etc/dir") && !opaque("etc"));
    assert_eq!(found.implicit, BTreeSet::from([PathBuf::from("opaque")]));
    assert!(!target.path().join(".wh..wh.plnk").exists());
}

#[test]
fn directories_that_a_layer_leaves_out_are_as_in_the_layers_below() {
    let (target, found) =
        Layer::new().file("srv/www/page", "x").symlink("run", "var/run").file("run/pid", "1").unpacked();
    let implicit: Vec<PathBuf> = ["srv", "srv/www", "var", "var/run"].map(PathBuf::from).into();
    assert_eq!(found.implicit.iter().cloned().collect::<Vec<_>>(), implicit);
    let lowers = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    fs::create_dir_all(lowers[0].path().join("srv")).unwrap();
    fs::create_dir_all(lowers[1].path().join("srv/www")).unwrap();
    fs::set_permissions(lowers[0].path().join("srv"), fs::Permissions::from_mode(0o711)).unwrap();
    fs::set_permissions(lowers[1].path().join("srv/www"), fs::Permissions::from_mode(0o1777)).unwrap();
    let paths: Vec<PathBuf> = lowers.iter().map(|lower| lower.path().to_owned()).collect();
    complete(target.path(), &found.implicit, &paths).unwrap();
    let mode = |path: &str| fs::metadata(target.path().join(path)).unwrap().mode() & 0o7777;
    assert_eq!([mode("srv"), mode("srv/www"), mode("var")], [0o711, 0o1777, 0o755]);
}

#[test]
fn directories_below_one_that_hides_the_layers_below_are_new() {
    if !is_root() {
        return;
    }
    let (target, found) =
        Layer::new().directory("data/", 0o755).file("data/.wh..wh..opq", "").file("data/new/file", "x").unpacked();
    let lower = tempfile::tempdir().unwrap();
    fs::create_dir_all(lower.path().join("data/new")).unwrap();
    fs::set_permissions(lower.path().join("data/new"), fs::Permissions::from_mode(0o700)).unwrap();
    complete(target.path(), &found.implicit, &[lower.path().to_owned()]).unwrap();
    assert_eq!(fs::metadata(target.path().join("data/new")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn long_runs_of_zeros_take_no_space() {
    let mut content = vec![0; 4 << 20];
    content[3 << 20] = 1;
    let (target, _) = Layer::new().entry(EntryType::Regular, "sparse", 0o600, None, &content).unpacked();
    let path = target.path().join("sparse");
    assert!(fs::metadata(&path).unwrap().blocks() * 512 < 1 << 20);
    assert!(fs::read(path).unwrap() == content);
}

#[test]
fn extended_attributes_are_kept_but_not_those_of_the_overlay() {
    let mut pax = Vec::new();
    for (key, value) in [
        ("SCHILY.xattr.user.note", "kept\n9 b=c\n"),
        ("SCHILY.xattr.trusted.overlay.redirect", "/etc"),
        ("mtime", "5.5"),
    ] {
        let mut length = key.len() + value.len() + 3;
        length += length.to_string().len();
        length = if format!("{length} {key}={value}\n").len() == length { length } else { length + 1 };
        pax.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
    }
    let (target, _) = Layer::new().entry(EntryType::XHeader, "pax", 0o644, None, &pax).file("file", "x").unpacked();
    let path = target.path().join("file");
    let mut value = [0; 32];
    let size = rustix::fs::getxattr(&path, "user.note", &mut value).unwrap();
    assert_eq!(&value[..size], b"kept\n9 b=c\n");
    assert!(rustix::fs::getxattr(&path, "trusted.overlay.redirect", &mut value).is_err());
    let time = fs::metadata(&path).unwrap();
    assert_eq!((time.mtime(), time.mtime_nsec()), (5, 500_000_000));
}

#[test]
fn what_is_no_layer_is_refused() {
    let target = tempfile::tempdir().unwrap();
    assert!(unpack(&b"not a tar at all, and longer than nothing".repeat(40)[..], target.path()).is_err());
    let cut = Layer::new().file("file", &"x".repeat(5000)).0.into_inner().unwrap();
    assert!(unpack(&cut[..3000], target.path()).is_err());
}

/// Directories as engines create them: the bit is inherited, the group is not.
#[test]
fn directories_that_no_layer_describes_get_the_set_group_id_bit_of_the_one_above() {
    if !is_root() {
        return;
    }
    let (target, found) = Layer::new()
        .directory("shared/", 0o2775)
        .owned_by(33)
        .file("shared/new/newer/file", "x")
        .file("plain/file", "x")
        .unpacked();
    let of = |path: &str| {
        let data = fs::metadata(target.path().join(path)).unwrap();
        (data.mode() & 0o7777, data.uid(), data.gid())
    };
    assert_eq!(of("shared"), (0o2775, 0, 33));
    assert_eq!((of("shared/new"), of("shared/new/newer")), ((0o2755, 0, 0), (0o2755, 0, 0)));
    assert_eq!(of("plain"), (0o755, 0, 0));
    let lower = tempfile::tempdir().unwrap();
    fs::create_dir_all(lower.path().join("shared")).unwrap();
    complete(target.path(), &found.implicit, &[lower.path().to_owned()]).unwrap();
    assert_eq!((of("shared"), of("shared/new")), ((0o2775, 0, 33), (0o2755, 0, 0)), "new ones keep their attributes");
}

#[test]
fn what_old_archives_say_in_their_own_way_is_understood() {
    let mut tar = Vec::new();
    let mut add = |name: &str, kind: u8, size: u64, change: &dyn Fn(&mut Header), content: &[u8]| {
        let mut header = Header::new_old();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkflag = [kind];
        header.set_size(size);
        header.set_mode(0o700);
        header.set_uid(rustix::process::getuid().as_raw().into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        change(&mut header);
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    };
    // A directory is a file whose name ends with a slash; links have a size and no content; no time is no time.
    add("directory/", 0, 0, &|_| {}, b"");
    add("directory/file", 0, 3, &|header| header.as_old_mut().mtime = [0; 12], b"one");
    let to_file = |header: &mut Header| header.as_old_mut().linkname[..14].copy_from_slice(b"directory/file");
    add("directory/link", b'1', 3, &to_file, b"");
    add("after", b'0', 3, &|_| {}, b"two");
    let target = tempfile::tempdir().unwrap();
    // Nothing is at its end, not even blocks of zeros.
    unpack(tar.as_slice(), target.path()).unwrap();
    assert_eq!(text(&target, "directory/link"), "one");
    assert_eq!(text(&target, "after"), "two");
    let behind = [tar, vec![0; 512], vec![1; 512]].concat();
    let message = unpack(behind.as_slice(), tempfile::tempdir().unwrap().path()).unwrap_err().to_string();
    assert!(message.contains("continues after its end"), "{message}");
}
