//! Random layers on top of each other: each may change, hide and replace what is below it.

use std::collections::{BTreeMap, BTreeSet};

use tar::EntryType;

use super::random::Random;
use super::tape::{Attributes, Tape};

type Path = Vec<u8>;

/// What a container of an image shows, as far as the next layer must know it.
#[derive(Clone, Default)]
pub(super) struct Tree {
    entries: BTreeMap<Path, (EntryType, Attributes)>,
    /// Directories that the last layer with them does not describe: no one knows their time.
    timeless: BTreeSet<Path>,
}

impl Tree {
    /// Whether no one knows the time of this directory; the root is made when an image comes.
    pub(super) fn is_timeless(&self, path: &[u8]) -> bool {
        path.is_empty() || self.timeless.contains(path)
    }
}

/// A layer, and what there is with it.
pub(super) struct Layer {
    pub(super) tar: Vec<u8>,
    pub(super) tree: Tree,
    /// Files that were written with their holes.
    pub(super) sparse: usize,
    /// New directories that nothing describes, below one with the set-group-ID bit.
    pub(super) inherited: usize,
}

struct Work<'a> {
    random: &'a mut Random,
    tape: Tape,
    below: &'a Tree,
    tree: Tree,
    /// What this layer has said something about: it says nothing twice.
    said: BTreeSet<Path>,
    /// Files of this layer, which may get more names.
    files: Vec<(Path, EntryType, Attributes)>,
    inherited: usize,
}

/// A layer on top of others; if it is a sparse one, files may be written with their holes.
pub(super) fn layer(random: &mut Random, below: &Tree, sparse: bool) -> Result<Layer, String> {
    let count = 3 + random.below(10);
    let (tape, tree) = (Tape::new(sparse), below.clone());
    let mut work = Work { random, tape, below, tree, said: BTreeSet::new(), files: Vec::new(), inherited: 0 };
    for _ in 0..count {
        match work.random.below(11) {
            0 | 1 => work.hide()?,
            2 => work.make_opaque()?,
            3 => work.describe_again()?,
            4 | 5 => work.replace()?,
            6 => work.link()?,
            7 => work.add_below_shared()?,
            _ => work.add()?,
        }
    }
    let Work { tape, tree, inherited, .. } = work;
    Ok(Layer { sparse: tape.holes, tar: tape.finish()?, tree, inherited })
}

fn below(directory: &[u8], path: &[u8]) -> bool {
    directory.is_empty() || path.len() > directory.len() && path.starts_with(directory) && path[directory.len()] == b'/'
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(&[], |place| &path[..place])
}

fn join(directory: &[u8], name: &[u8]) -> Path {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

impl Work<'_> {
    // ---- what there is to do something with ----

    /// Whether the layer may say something about this path: nothing was said of it or of what is below it.
    fn is_free(&self, path: &[u8]) -> bool {
        !self.said.contains(path) && !self.said.iter().any(|said| below(path, said))
    }

    fn pick(&mut self, fits: impl Fn(&Self, &[u8], EntryType) -> bool) -> Option<Path> {
        let all: Vec<&Path> = self
            .tree
            .entries
            .iter()
            .filter(|(path, (kind, _))| fits(self, path, *kind))
            .map(|(path, _)| path)
            .collect();
        let found = (!all.is_empty()).then(|| all[usize::try_from(self.random.next() % all.len() as u64).unwrap_or(0)]);
        found.cloned()
    }

    /// A directory for something new, maybe one that is not there yet and that no entry describes.
    fn directory(&mut self) -> Path {
        let mut directory = if self.random.one_in(3) {
            Path::new()
        } else {
            self.pick(|_, _, kind| kind == EntryType::Directory).unwrap_or_default()
        };
        if self.random.one_in(4) {
            for _ in 0..=self.random.below(2) {
                let name = self.name();
                directory = join(&directory, &name);
            }
        }
        directory
    }

    fn name(&mut self) -> Vec<u8> {
        match self.random.below(14) {
            0 => self.random.of(&["größe", "名前", "🎉 party", "e\u{301}", "\u{202e}abc"]).as_bytes().to_vec(),
            1 => self
                .random
                .of(&["two words", "line\nbreak", "back\\slash", "quo\"te", "-dash", ".hidden", ".whx", "%41"])
                .as_bytes()
                .to_vec(),
            2 => vec![b'n'; 101 + self.random.below(150)],
            3 => "ü".repeat(60 + self.random.below(67)).into_bytes(),
            4 => vec![0xe4, b'x', 0xff],
            _ => vec![b'a' + self.random.next().to_le_bytes()[0] % 12],
        }
    }

    // ---- entries ----

    /// Describes the directories above a path, except where saying nothing gives the same.
    fn parents(&mut self, path: &[u8]) -> Result<(), String> {
        let above = parent(path).to_vec();
        if above.is_empty() || self.said.contains(&above) {
            return Ok(());
        }
        self.parents(&above)?;
        let known = self.tree.entries.get(&above).cloned();
        let directory = known.filter(|(kind, _)| *kind == EntryType::Directory);
        let is_new = directory.is_none();
        let mut attributes = directory.map_or(Attributes::PLAIN, |(_, attributes)| attributes);
        // What is made in a directory with the set-group-ID bit gets that too.
        let inherits = self.tree.entries.get(parent(&above)).is_some_and(|(_, directory)| directory.mode & 0o2000 != 0);
        // The engine makes it anew, whatever the layers below have.
        if attributes.is_plain() && (is_new || !inherits) && self.random.one_in(2) {
            if inherits {
                attributes.mode |= 0o2000;
                self.inherited += 1;
            }
            self.said.insert(above.clone());
            self.forget_below_unless_directory(&above);
            self.tree.timeless.insert(above.clone());
            self.tree.entries.insert(above, (EntryType::Directory, attributes));
            return Ok(());
        }
        self.write(EntryType::Directory, &above, b"", &attributes, b"")
    }

    fn forget(&mut self, path: &[u8]) {
        self.tree.entries.retain(|other, _| other != path && !below(path, other));
        self.tree.timeless.retain(|other| other != path && !below(path, other));
    }

    fn forget_below_unless_directory(&mut self, path: &[u8]) {
        if self.tree.entries.get(path).is_some_and(|(kind, _)| *kind != EntryType::Directory) {
            self.forget(path);
        }
    }

    fn write(
        &mut self,
        kind: EntryType,
        path: &[u8],
        link: &[u8],
        attributes: &Attributes,
        content: &[u8],
    ) -> Result<(), String> {
        self.parents(path)?;
        let device =
            (1 + u32::from(self.random.next().to_le_bytes()[0]), u32::from(self.random.next().to_le_bytes()[0]) * 4000);
        self.tape.add(self.random, (kind, path, link), attributes, content, device)?;
        self.said.insert(path.to_vec());
        if kind == EntryType::Directory {
            self.forget_below_unless_directory(path);
            self.tree.timeless.remove(path);
        } else {
            self.forget(path);
        }
        self.tree.entries.insert(path.to_vec(), (kind, attributes.clone()));
        Ok(())
    }

    fn write_any(&mut self, path: &[u8]) -> Result<(), String> {
        let kinds: &[EntryType] = if self.tape.sparse && self.random.one_in(2) {
            &[EntryType::Regular]
        } else {
            &[
                EntryType::Regular,
                EntryType::Regular,
                EntryType::Regular,
                EntryType::Directory,
                EntryType::Directory,
                EntryType::Symlink,
                EntryType::Symlink,
                EntryType::Fifo,
                EntryType::Char,
                EntryType::Block,
            ]
        };
        let kind = *self.random.of(kinds);
        let attributes = Attributes::random(self.random, kind);
        let link = if kind == EntryType::Symlink { self.target() } else { Path::new() };
        let content = if kind == EntryType::Regular { self.content() } else { Vec::new() };
        self.write(kind, path, &link, &attributes, &content)?;
        if !matches!(kind, EntryType::Directory | EntryType::Symlink) {
            self.files.push((path.to_vec(), kind, attributes));
        }
        Ok(())
    }

    fn content(&mut self) -> Vec<u8> {
        match self.random.below(8) {
            0 | 1 => Vec::new(),
            2 => {
                let mut sparse = vec![0; 300_000];
                sparse.extend(self.random.bytes(9));
                sparse
            }
            _ if self.tape.sparse && self.random.one_in(2) => {
                let mut sparse = vec![0; 1 + self.random.below(90_000)];
                for _ in 0..self.random.below(40) {
                    let place = self.random.below(sparse.len());
                    sparse[place] = self.random.next().to_le_bytes()[0];
                }
                sparse
            }
            3 => self.random.bytes(512),
            4 => self.random.bytes(70_000),
            _ => {
                let size = 1 + self.random.below(700);
                self.random.bytes(size)
            }
        }
    }

    fn target(&mut self) -> Path {
        match self.random.below(5) {
            0 => b"/nowhere".to_vec(),
            1 => b"../../../../../../etc/passwd".to_vec(),
            2 => vec![b't'; 101 + self.random.below(900)],
            3 => "/ziel/größe".into(),
            _ => {
                let directory = self.pick(|_, _, kind| kind == EntryType::Directory).unwrap_or_default();
                [b"/", directory.as_slice()].concat()
            }
        }
    }

    // ---- what a layer does ----

    fn add(&mut self) -> Result<(), String> {
        let (directory, name) = (self.directory(), self.name());
        self.add_at(&join(&directory, &name))
    }

    fn add_at(&mut self, path: &[u8]) -> Result<(), String> {
        // What is above must be able to become a directory: a path below a file that this layer has written cannot be.
        let blocked = self.said.iter().any(|said| {
            below(said, path) && self.tree.entries.get(said).is_none_or(|(kind, _)| *kind != EntryType::Directory)
        });
        if path.len() > 2500 || blocked || !self.is_free(path) {
            return Ok(());
        }
        self.write_any(path)
    }

    /// Something in new directories below one with the set-group-ID bit.
    fn add_below_shared(&mut self) -> Result<(), String> {
        let is_shared = |work: &Self, path: &[u8]| {
            work.tree.entries.get(path).is_some_and(|(_, attributes)| attributes.mode & 0o2000 != 0)
        };
        let fits = |work: &Self, path: &[u8], kind| kind == EntryType::Directory && is_shared(work, path);
        let Some(shared) = self.pick(fits) else { return self.add() };
        let path = [self.name(), self.name(), self.name()].iter().fold(shared, |path, name| join(&path, name));
        self.add_at(&path)
    }

    /// Another kind of thing in the place of something of a layer below.
    fn replace(&mut self) -> Result<(), String> {
        let Some(path) = self.pick(|work, path, _| work.is_free(path)) else { return self.add() };
        self.write_any(&path)
    }

    /// One more name of a file of this layer.
    fn link(&mut self) -> Result<(), String> {
        let (directory, name) = (self.directory(), self.name());
        let path = join(&directory, &name);
        if self.files.is_empty() || self.tree.entries.contains_key(&path) || !self.is_free(&path) {
            return self.add();
        }
        let above: Vec<Path> = self.said.iter().filter(|said| below(said, &path)).cloned().collect();
        if above.iter().any(|said| self.tree.entries.get(said).is_none_or(|(kind, _)| *kind != EntryType::Directory)) {
            return Ok(());
        }
        let (target, kind, attributes) = self.files[self.random.below(self.files.len())].clone();
        self.write(EntryType::Link, &path, &target, &attributes, b"")?;
        self.tree.entries.insert(path, (kind, attributes));
        Ok(())
    }

    /// Hides something of a layer below.
    fn hide(&mut self) -> Result<(), String> {
        let there = |work: &Self, path: &[u8], _| work.is_free(path) && work.below.entries.contains_key(path);
        let Some(path) = self.pick(there) else { return self.add() };
        let name = [b".wh.", &path[parent(&path).len() + usize::from(path.contains(&b'/'))..]].concat();
        if name.len() > 255 {
            return Ok(());
        }
        let whiteout = join(parent(&path), &name);
        self.parents(&path)?;
        self.tape.add(self.random, (EntryType::Regular, &whiteout, b""), &Attributes::PLAIN, b"", (0, 0))?;
        self.said.insert(path.clone());
        self.forget(&path);
        Ok(())
    }

    /// Hides all that the layers below have in a directory.
    fn make_opaque(&mut self) -> Result<(), String> {
        let fits = |work: &Self, path: &[u8], kind| kind == EntryType::Directory && work.is_free(path);
        let Some(path) = self.pick(fits) else { return self.add() };
        let attributes = Attributes::random(self.random, EntryType::Directory);
        self.forget(&path);
        self.write(EntryType::Directory, &path, b"", &attributes, b"")?;
        let marker = join(&path, b".wh..wh..opq");
        self.tape.add(self.random, (EntryType::Regular, &marker, b""), &Attributes::PLAIN, b"", (0, 0))?;
        if self.random.one_in(2) {
            let path = join(&path, &self.name());
            self.write_any(&path)?;
        }
        Ok(())
    }

    /// The same directory with other attributes.
    fn describe_again(&mut self) -> Result<(), String> {
        let fits = |work: &Self, path: &[u8], kind| kind == EntryType::Directory && !work.said.contains(path);
        let Some(path) = self.pick(fits) else { return self.add() };
        let attributes = Attributes::random(self.random, EntryType::Directory);
        self.write(EntryType::Directory, &path, b"", &attributes, b"")
    }
}
