//! Reads a snapshot file front to back and verifies every byte of it.

use std::io;

use crate::checksum::digest;
use crate::error::Error;
use crate::storage::{BLOCK_BYTES, Disk, DiskFile};

use super::container::{
    CHUNK_BYTES, TABLE_BYTES, TRAILER_BYTES, Trailer, chunk_table, decode_header, digest_sums,
    total_digest,
};
use super::{SnapshotHeader, SnapshotRef, damaged};

/// Calls `each` with the payload of every chunk in order, after it has been verified.
///
/// Reads never allocate more than a chunk and the list of digests, which the length of the file bounds.
pub(super) fn read(
    disk: &dyn Disk,
    path: &str,
    mut each: impl FnMut(&[u8]),
) -> Result<(SnapshotRef, SnapshotHeader), Error> {
    let io = |error: io::Error| Error::io("read", path)(error);
    let file = disk.open_read(path).map_err(io)?;
    let length = file.len().map_err(io)?;
    if length < (BLOCK_BYTES + TRAILER_BYTES) as u64 {
        return Err(damaged(path, format!("has only {length} bytes")));
    }
    let mut block = [0; BLOCK_BYTES];
    file.read_exact_at(&mut block, 0).map_err(io)?;
    let header = decode_header(&block).map_err(|what| damaged(path, what))?;
    let mut end = [0; TRAILER_BYTES];
    file.read_exact_at(&mut end, length - TRAILER_BYTES as u64)
        .map_err(io)?;
    let trailer = Trailer::decode(&end).map_err(|what| damaged(path, what))?;
    if trailer.file_bytes() != Some(length) {
        return Err(damaged(
            path,
            format!("has {length} bytes, its trailer says otherwise"),
        ));
    }
    let list = read_list(&*file, path, &trailer, length)?;
    let found = total_digest(&header, trailer.payload_bytes, &list);
    if found != trailer.digest {
        return Err(damaged(path, "the digest over all does not match"));
    }
    let mut at = BLOCK_BYTES as u64;
    let mut left = trailer.payload_bytes;
    let mut chunk = vec![0; TABLE_BYTES + left.min(CHUNK_BYTES as u64) as usize];
    for (number, wanted) in list.as_chunks::<8>().0.iter().enumerate() {
        let payload_bytes = left.min(CHUNK_BYTES as u64) as usize;
        let stored = &mut chunk[..TABLE_BYTES + payload_bytes];
        file.read_exact_at(stored, at).map_err(io)?;
        let (table, payload) = stored.split_at(TABLE_BYTES);
        if table != chunk_table(number as u64, payload) || digest(payload).to_le_bytes() != *wanted
        {
            return Err(damaged(
                path,
                format!("chunk {number} at byte {at} is damaged"),
            ));
        }
        each(payload);
        at += stored.len() as u64;
        left -= payload_bytes as u64;
    }
    Ok((
        SnapshotRef {
            slot: header.slot,
            length,
            digest: found,
        },
        header,
    ))
}

fn read_list(
    file: &dyn DiskFile,
    path: &str,
    trailer: &Trailer,
    length: u64,
) -> Result<Vec<u8>, Error> {
    // Bounded: `file_bytes` was compared with the length of the file.
    let list_bytes = trailer.chunks * 8;
    let sums_bytes = list_bytes.div_ceil(8192) * 4;
    let mut list = vec![0; (list_bytes + sums_bytes) as usize];
    let at = length - TRAILER_BYTES as u64 - list.len() as u64;
    file.read_exact_at(&mut list, at)
        .map_err(|error| Error::io("read", path)(error))?;
    let sums = list.split_off(list_bytes as usize);
    if digest_sums(&list) != sums {
        return Err(damaged(path, "the list of digests is damaged"));
    }
    Ok(list)
}
