//! Writes a snapshot file front to back from a stream.

use std::io::{self, Read};

use crate::checksum::digest;
use crate::error::Error;
use crate::storage::Disk;

use super::container::{
    CHUNK_BYTES, MEMBERSHIP_BYTES_MAX, Trailer, chunk_table, digest_sums, encode_header,
    total_digest,
};
use super::{SnapshotHeader, SnapshotRef, append};

/// Synced after so many chunks (8 MiB), so that no single sync stalls the log for long.
const CHUNKS_PER_SYNC: u64 = 32;

pub(super) fn write(
    disk: &dyn Disk,
    path: &str,
    header: &SnapshotHeader,
    payload: &mut dyn Read,
) -> Result<SnapshotRef, Error> {
    let size = header.membership.len();
    if size > MEMBERSHIP_BYTES_MAX {
        let (size, limit) = (size as u64, MEMBERSHIP_BYTES_MAX as u64);
        return Err(Error::TooLarge {
            what: "membership",
            size,
            limit,
        });
    }
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("remove", path)(error));
        }
        _ => {}
    }
    stream(disk, path, header, payload).map_err(Error::io("write", path))
}

fn stream(
    disk: &dyn Disk,
    path: &str,
    header: &SnapshotHeader,
    payload: &mut dyn Read,
) -> io::Result<SnapshotRef> {
    let file = disk.create(path)?;
    let mut at = 0;
    append(&*file, &mut at, &encode_header(header))?;
    let (mut chunks, mut payload_bytes, mut list) = (0, 0, Vec::new());
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    loop {
        chunk.clear();
        payload.take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            break;
        }
        append(&*file, &mut at, &chunk_table(chunks, &chunk))?;
        append(&*file, &mut at, &chunk)?;
        list.extend_from_slice(&digest(&chunk).to_le_bytes());
        chunks += 1;
        payload_bytes += chunk.len() as u64;
        if chunks % CHUNKS_PER_SYNC == 0 {
            file.sync()?;
        }
        if chunk.len() < CHUNK_BYTES {
            break;
        }
    }
    append(&*file, &mut at, &list)?;
    append(&*file, &mut at, &digest_sums(&list))?;
    let digest = total_digest(header, payload_bytes, &list);
    append(
        &*file,
        &mut at,
        &Trailer {
            chunks,
            payload_bytes,
            digest,
        }
        .encode(),
    )?;
    file.sync()?;
    Ok(SnapshotRef {
        slot: header.slot,
        length: at,
        digest,
    })
}
