//! Entry points for fuzzers, one for each decoder: they must return, whatever the bytes.
//!
//! Checksums are made right where a decoder would stop at them, so that the code behind them is reached too.

use std::sync::Arc;

use crate::batch::{self, BatchHeader, HEADER_BYTES};
use crate::checksum::crc;
use crate::field;
use crate::record::{Lsn, Record, RecordKind};
use crate::segment::{FORMAT_MAJOR, SegmentHeader};
use crate::storage::{BLOCK_BYTES, Disk, MemDisk};
use crate::superblock::Superblock;
use crate::{Environment, Folder, Options, layout, snapshot};

/// Decodes a segment header and scans a segment with it.
pub fn segment(data: &[u8]) {
    let mut block = [0; BLOCK_BYTES];
    let len = data.len().min(BLOCK_BYTES);
    block[..len].copy_from_slice(&data[..len]);
    let _ = SegmentHeader::decode(&block);
    seal(&mut block, *b"PXWALSEG", FORMAT_MAJOR);
    let disk = MemDisk::new();
    if disk.create_dir(layout::WAL).is_err() || disk.create(&layout::segment_path(1)).is_err() {
        return;
    }
    disk.damage(&layout::segment_path(1), 0, &block);
    disk.damage(&layout::segment_path(1), BLOCK_BYTES as u64, data);
    if let Ok(header) = SegmentHeader::decode(&block)
        && header.capacity <= 1 << 20
    {
        let _ = super::survey(&disk).map(|facts| super::decide(&facts));
    }
}

/// Decodes a superblock.
pub fn superblock(data: &[u8]) {
    let _ = Superblock::decode(data);
    let mut block = [0; BLOCK_BYTES];
    let len = data.len().min(BLOCK_BYTES);
    block[..len].copy_from_slice(&data[..len]);
    seal(&mut block, *b"PXWALSUP", FORMAT_MAJOR);
    if let Ok(superblock) = Superblock::decode(&block) {
        assert_eq!(
            Superblock::decode(&superblock.encode()).as_ref(),
            Ok(&superblock)
        );
    }
}

/// Reads a snapshot file.
pub fn snapshot(data: &[u8]) {
    let disk = MemDisk::new();
    let path = layout::snapshot_path(1);
    if disk.create_dir(layout::SNAPSHOTS).is_err() || disk.create(&path).is_err() {
        return;
    }
    disk.damage(&path, 0, data);
    let _ = snapshot::inspect(&disk, 1);
    if data.len() >= BLOCK_BYTES + 48 {
        let mut header = [0; BLOCK_BYTES];
        header.copy_from_slice(&data[..BLOCK_BYTES]);
        seal(&mut header, *b"PXWALSNP", snapshot::FORMAT_MAJOR);
        disk.damage(&path, 0, &header);
        let at = data.len() - 48;
        let mut trailer = data[at..].to_vec();
        field::put(&mut trailer, 0, *b"PXWALEND");
        field::put(&mut trailer, 8, [0; 4]);
        let sum = crc(0, &trailer);
        field::put(&mut trailer, 8, sum.to_le_bytes());
        disk.damage(&path, at as u64, &trailer);
        let _ = snapshot::inspect(&disk, 1);
    }
}

/// Decodes a batch header and verifies a body with it.
pub fn batch(data: &[u8]) {
    if data.len() < HEADER_BYTES {
        return;
    }
    let mut bytes = data.to_vec();
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    let limit = Lsn(bytes.len() as u64);
    let _ = BatchHeader::decode(&bytes, 0, Lsn(0), limit);
    field::put(&mut bytes, 0, batch::MAGIC);
    field::put(&mut bytes, 8, [0; 8]);
    let sum = crc(0, &bytes[8..HEADER_BYTES]);
    field::put(&mut bytes, 4, sum.to_le_bytes());
    if let Ok(mut header) = BatchHeader::decode(&bytes, 0, Lsn(0), limit) {
        let padded = header.padded() as usize;
        let (_, records) = batch::verify(&bytes[..padded], &header, 0);
        assert!(records.len() <= batch::RECORDS_MAX);
        // Again behind a good directory: the record headers themselves are fuzzed.
        header.directory_crc = batch::directory_crc(&bytes[..padded], &header, 0);
        let (_, records) = batch::verify(&bytes[..padded], &header, 0);
        assert!(records.len() <= batch::RECORDS_MAX);
    }
}

/// Writes pieces of the input over a real folder and opens it.
pub fn folder(data: &[u8]) {
    let disk = MemDisk::new();
    let options = || Options {
        segment_bytes: 32 * 1024,
    };
    let open = |disk: &MemDisk, seed| {
        let folder = Folder::open(Arc::new(disk.clone()), 1, Environment::seeded(seed))?;
        folder.open_log(options())
    };
    let Ok((mut log, _)) = open(&disk, 1) else {
        return;
    };
    for slot in 1..=12 {
        let payload = vec![slot as u8; 100].into();
        let record = Record {
            kind: RecordKind::Accept,
            slot,
            ballot: 1,
            payload,
        };
        if log.commit(&[record], 0).is_err() {
            return;
        }
    }
    drop(log);
    let files = [
        layout::SUPERBLOCKS[0].to_owned(),
        layout::segment_path(1),
        layout::segment_path(2),
    ];
    let mut rest = data;
    while rest.len() > 4 {
        let path = &files[usize::from(rest[0]) % files.len()];
        let at = u64::from(u16::from_le_bytes([rest[1], rest[2]])) / 2;
        let len = usize::from(rest[3]).min(rest.len() - 4);
        if disk.exists(path).unwrap_or(false) && len > 0 {
            disk.damage(path, at, &rest[4..4 + len]);
        }
        rest = &rest[4 + len..];
    }
    let Ok(facts) = super::survey(&disk) else {
        return;
    };
    let decision = super::decide(&facts);
    let views = super::records(&facts, &decision);
    assert!(views.count() < 100);
    if let Ok((log, _)) = open(&disk, 2) {
        for slot in 0..20 {
            if let Ok(Some(entry)) = log.read(slot) {
                assert_eq!(entry.payload, vec![slot as u8; 100]);
            }
        }
    }
}

/// Puts magic, version and a right checksum into a block.
fn seal(block: &mut [u8; BLOCK_BYTES], magic: [u8; 8], major: u16) {
    field::put(block, 0, magic);
    field::put(block, 8, major.to_le_bytes());
    field::put(block, 12, [0; 4]);
    let sum = crc(0, block);
    field::put(block, 12, sum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_entry_point_returns(data in prop::collection::vec(any::<u8>(), 0..9000)) {
            segment(&data);
            superblock(&data);
            snapshot(&data);
            batch(&data);
            folder(&data);
        }
    }
}
