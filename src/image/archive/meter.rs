//! Measures and hashes the files of an archive while they pass by.

use std::io::{self, Read, Write};

use coracle_shared::content::Packing;
use flate2::write::MultiGzDecoder as GzipUnpacker;
use sha2::{Digest, Sha256};
use zstd::stream::write::Decoder as ZstdUnpacker;

use crate::error::Result;
use crate::image::archive::digest::finish;
use crate::image::archive::invalid::invalid;

/// What is known about one file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileFacts {
    /// Bytes.
    pub size: u64,
    /// Digest of its bytes, if it was computed.
    pub digest: Option<String>,
    /// Digest of the unpacked bytes, if it was computed.
    pub unpacked: Option<String>,
    pub packing: Packing,
}

/// Measures and hashes what is read through it.
pub(crate) struct Meter<R> {
    source: R,
    /// Bytes read so far.
    pub size: u64,
    hash: Option<Sha256>,
    unpacked: Option<Unpacker>,
    packing: Packing,
}

/// Hashes what comes out of a packed file.
enum Unpacker {
    Gzip(GzipUnpacker<HashWriter>),
    Zstd(ZstdUnpacker<'static, HashWriter>),
}

impl Unpacker {
    fn new(packing: Packing) -> Option<Self> {
        let hash = HashWriter(Sha256::new());
        match packing {
            Packing::Plain => None,
            Packing::Gzip => Some(Self::Gzip(GzipUnpacker::new(hash))),
            // It fails only if there is no memory.
            Packing::Zstd => ZstdUnpacker::new(hash).ok().map(Self::Zstd),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(unpacker) => unpacker.write_all(bytes),
            Self::Zstd(unpacker) => unpacker.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<String> {
        match self {
            Self::Gzip(unpacker) => unpacker.finish().map(|hash| finish(hash.0)),
            Self::Zstd(mut unpacker) => {
                unpacker.flush()?;
                Ok(finish(unpacker.into_inner().0))
            }
        }
    }
}

struct HashWriter(Sha256);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<R: Read> Meter<R> {
    pub(crate) fn new(source: R, hash: bool, unpack: bool, packing: Packing) -> Self {
        let unpacked = if unpack { Unpacker::new(packing) } else { None };
        Self { source, size: 0, hash: hash.then(Sha256::new), unpacked, packing }
    }

    /// The facts, once everything was read.
    pub(crate) fn facts(self, path: &str) -> Result<FileFacts> {
        let digest = self.hash.map(finish);
        let unpacked = match (self.unpacked, self.packing) {
            (Some(unpacked), _) => {
                let digest = unpacked.finish();
                Some(digest.map_err(|source| invalid(format!("its file `{path}` is damaged: {source}")))?)
            }
            (None, Packing::Plain) => digest.clone(),
            (None, _) => None,
        };
        Ok(FileFacts { size: self.size, digest, unpacked, packing: self.packing })
    }
}

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        let bytes = &buffer[..count];
        self.size += count as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        if let Some(unpacked) = &mut self.unpacked {
            unpacked.write(bytes)?;
        }
        Ok(count)
    }
}
