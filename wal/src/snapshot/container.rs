//! The blocks of a snapshot file: header, chunk table, trailer, and the digest over all.

use bytes::Bytes;

use crate::checksum::{UNIT_BYTES, crc, digest};
use crate::field;
use crate::storage::BLOCK_BYTES;

use super::SnapshotHeader;

/// Payload bytes of a chunk; the last may hold fewer.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// The longest membership.
pub const MEMBERSHIP_BYTES_MAX: usize = BLOCK_BYTES - MEMBERSHIP_AT;

/// Bytes of CRCs in front of a chunk.
pub(super) const TABLE_BYTES: usize = CHUNK_BYTES / UNIT_BYTES * 4;
pub(super) const TRAILER_BYTES: usize = 48;

/// Major version of the container. It has versions of its own, apart from those of the log.
pub(crate) const FORMAT_MAJOR: u16 = 1;
const FORMAT_MINOR: u16 = 0;
const MAGIC: [u8; 8] = *b"PXWALSNP";
const TRAILER_MAGIC: [u8; 8] = *b"PXWALEND";
const MEMBERSHIP_AT: usize = 256;

/// The header block.
pub(super) fn encode_header(header: &SnapshotHeader) -> [u8; BLOCK_BYTES] {
    let mut b = [0; BLOCK_BYTES];
    field::put(&mut b, 0, MAGIC);
    field::put(&mut b, 8, FORMAT_MAJOR.to_le_bytes());
    field::put(&mut b, 10, FORMAT_MINOR.to_le_bytes());
    field::put(&mut b, 16, header.cluster.to_le_bytes());
    field::put(&mut b, 32, header.slot.to_le_bytes());
    field::put(&mut b, 40, (CHUNK_BYTES as u32).to_le_bytes());
    field::put(&mut b, 44, (UNIT_BYTES as u32).to_le_bytes());
    field::put(&mut b, 48, (header.membership.len() as u32).to_le_bytes());
    b[MEMBERSHIP_AT..MEMBERSHIP_AT + header.membership.len()].copy_from_slice(&header.membership);
    let sum = crc(0, &b);
    field::put(&mut b, 12, sum.to_le_bytes());
    b
}

/// Reads the header block; the error says what is wrong.
pub(super) fn decode_header(block: &[u8; BLOCK_BYTES]) -> Result<SnapshotHeader, String> {
    if field::bytes::<8>(block, 0) != MAGIC {
        return Err("wrong magic".to_owned());
    }
    let mut copy = *block;
    field::put(&mut copy, 12, [0; 4]);
    if crc(0, &copy) != field::u32(block, 12) {
        return Err("checksum of the header does not match".to_owned());
    }
    let major = field::u16(block, 8);
    if major != FORMAT_MAJOR {
        return Err(format!(
            "format {major}, this version reads up to {FORMAT_MAJOR}"
        ));
    }
    let sizes = (
        field::u32(block, 40) as usize,
        field::u32(block, 44) as usize,
    );
    let membership = field::u32(block, 48) as usize;
    if sizes != (CHUNK_BYTES, UNIT_BYTES) || membership > MEMBERSHIP_BYTES_MAX {
        return Err("impossible sizes in the header".to_owned());
    }
    Ok(SnapshotHeader {
        cluster: field::u128(block, 16),
        slot: field::u64(block, 32),
        membership: Bytes::copy_from_slice(&block[MEMBERSHIP_AT..MEMBERSHIP_AT + membership]),
    })
}

/// The CRCs in front of a chunk. The chunk's number seeds them: a chunk does not verify in another's place.
pub(super) fn chunk_table(number: u64, payload: &[u8]) -> [u8; TABLE_BYTES] {
    let mut table = [0; TABLE_BYTES];
    for (unit, sum) in payload.chunks(UNIT_BYTES).zip(table.as_chunks_mut::<4>().0) {
        *sum = crc(number as u32, unit).to_le_bytes();
    }
    table
}

/// The CRCs of the list of digests, one for each 8 KiB begun.
pub(super) fn digest_sums(list: &[u8]) -> Vec<u8> {
    list.chunks(UNIT_BYTES)
        .flat_map(|unit| crc(0, unit).to_le_bytes())
        .collect()
}

/// The end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) chunks: u64,
    pub(super) payload_bytes: u64,
    pub(super) digest: u64,
}

impl Trailer {
    pub(super) fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut b = [0; TRAILER_BYTES];
        field::put(&mut b, 0, TRAILER_MAGIC);
        field::put(&mut b, 16, self.chunks.to_le_bytes());
        field::put(&mut b, 24, self.payload_bytes.to_le_bytes());
        field::put(&mut b, 32, self.digest.to_le_bytes());
        let sum = crc(0, &b);
        field::put(&mut b, 8, sum.to_le_bytes());
        b
    }

    pub(super) fn decode(b: &[u8; TRAILER_BYTES]) -> Result<Trailer, String> {
        let mut copy = *b;
        field::put(&mut copy, 8, [0; 4]);
        if field::bytes::<8>(b, 0) != TRAILER_MAGIC || crc(0, &copy) != field::u32(b, 8) {
            return Err("the trailer is damaged or missing".to_owned());
        }
        Ok(Trailer {
            chunks: field::u64(b, 16),
            payload_bytes: field::u64(b, 24),
            digest: field::u64(b, 32),
        })
    }

    /// Bytes that a file with this trailer has, if its counts fit each other.
    pub(super) fn file_bytes(&self) -> Option<u64> {
        if self.chunks != self.payload_bytes.div_ceil(CHUNK_BYTES as u64) {
            return None;
        }
        let list = self.chunks.checked_mul(8)?;
        let sums = list.div_ceil(UNIT_BYTES as u64) * 4;
        let tables = self.chunks.checked_mul(TABLE_BYTES as u64)?;
        [
            BLOCK_BYTES as u64,
            tables,
            self.payload_bytes,
            list,
            sums,
            TRAILER_BYTES as u64,
        ]
        .into_iter()
        .try_fold(0_u64, u64::checked_add)
    }
}

/// The digest over everything that the snapshot says.
pub(super) fn total_digest(header: &SnapshotHeader, payload_bytes: u64, list: &[u8]) -> u64 {
    let mut all = Vec::with_capacity(48 + header.membership.len());
    all.extend_from_slice(&header.cluster.to_le_bytes());
    all.extend_from_slice(&header.slot.to_le_bytes());
    all.extend_from_slice(&payload_bytes.to_le_bytes());
    all.extend_from_slice(&digest(list).to_le_bytes());
    all.extend_from_slice(&header.membership);
    digest(&all)
}
