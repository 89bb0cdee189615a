//! The bytes of a layer on their way: writing files, hashing, decompressing.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender};

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::sparse::Sparse;
use coracle_shared::content::Packing;

/// Bytes handled at once.
const CHUNK: usize = 256 << 10;
/// The number of zeros in a row that become a hole in a file.
const HOLE: usize = 64 << 10;

/// The digest of some bytes.
pub(super) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// Fills a buffer as far as the source has bytes.
fn fill(source: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match source.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(source),
        }
    }
    Ok(length)
}

/// Writes the content of a new file; long runs of zeros become holes.
pub(super) fn write_content(source: &mut impl Read, file: &File) -> io::Result<()> {
    let size = write_from(source, file, 0, &mut vec![0; HOLE])?;
    file.set_len(size)
}

/// Writes the content of a new file that has holes.
pub(super) fn write_sparse(source: &mut impl Read, map: &Sparse, file: &File) -> io::Result<()> {
    let mut buffer = vec![0; HOLE];
    // This comes first: the size may be larger than a file can be.
    file.set_len(map.size)?;
    for (offset, length) in &map.parts {
        write_from(&mut source.take(*length), file, *offset, &mut buffer)?;
    }
    Ok(())
}

/// Writes from an offset on, except zeros; returns the end offset.
fn write_from(source: &mut impl Read, file: &File, mut offset: u64, buffer: &mut [u8]) -> io::Result<u64> {
    loop {
        let count = fill(source, buffer)?;
        let bytes = &buffer[..count];
        if bytes.iter().any(|byte| *byte != 0) {
            file.write_all_at(bytes, offset)?;
        }
        offset += count as u64;
        if count < buffer.len() {
            return Ok(offset);
        }
    }
}

/// Decompresses the bytes of a layer, hashes them and sends them on; returns their digest and number.
///
/// If the receiver ends early, the bytes are read to their end nevertheless: the next message comes after them.
pub(super) fn pump(source: &mut impl Read, packing: Packing, sink: &SyncSender<Vec<u8>>) -> io::Result<(String, u64)> {
    let result = {
        let packed = BufReader::with_capacity(CHUNK, &mut *source);
        match packing {
            Packing::Plain => hash(packed.into_inner(), sink),
            Packing::Gzip => hash(&mut MultiGzDecoder::new(packed), sink),
            Packing::Zstd => hash(&mut zstd::Decoder::with_buffer(packed)?, sink),
        }
    };
    io::copy(source, &mut io::sink())?;
    // All bytes arrived, but not in the format that was announced.
    result.map_err(|source| io::Error::new(io::ErrorKind::InvalidData, source))
}

fn hash(source: &mut impl Read, sink: &SyncSender<Vec<u8>>) -> io::Result<(String, u64)> {
    let (mut hash, mut size) = (Sha256::new(), 0);
    loop {
        let mut chunk = vec![0; CHUNK];
        let count = fill(source, &mut chunk)?;
        chunk.truncate(count);
        if count == 0 {
            return Ok((format!("sha256:{:x}", hash.finalize()), size));
        }
        hash.update(&chunk);
        size += count as u64;
        // The unpacking thread may have failed; it reports that itself.
        let _ = sink.send(chunk);
    }
}

/// Reads what `pump` sends on.
pub(super) struct Chunks {
    source: Receiver<Vec<u8>>,
    chunk: io::Cursor<Vec<u8>>,
}

impl Chunks {
    pub(super) fn new(source: Receiver<Vec<u8>>) -> Self {
        Self { source, chunk: io::Cursor::default() }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.chunk.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.source.recv() {
                Ok(chunk) => self.chunk = io::Cursor::new(chunk),
                Err(_) => return Ok(0),
            }
        }
    }
}
