//! The example in `FORMAT.md` is printed by this test, so it is always true. `UPDATE=1` writes it again.
//!
//! A changed example is a changed format: old logs may not be readable any more.

use std::fmt::Write as _;
use std::sync::Arc;

use wal::storage::MemDisk;
use wal::{Environment, Folder, Options, Record, RecordKind, snapshot};

const BEGIN: &str = "<!-- example: begin -->\n";
const END: &str = "<!-- example: end -->\n";

/// One group with a promise and a value, in a log of cluster 0xc1, node 1.
fn example() -> MemDisk {
    let disk = MemDisk::new();
    let shared = Arc::new(disk.clone());
    let mut folder = Folder::open(shared, 1, Environment::seeded(7)).unwrap();
    folder.store_birth(0xc1, b"birth").unwrap();
    let (mut log, _) = folder
        .open_log(Options {
            segment_bytes: 32 * 1024,
        })
        .unwrap();
    let ballot = 3 << 16 | 1;
    let promise = Record {
        kind: RecordKind::Promise,
        slot: 0,
        ballot,
        payload: "".into(),
    };
    let accept = Record {
        kind: RecordKind::Accept,
        slot: 1,
        ballot,
        payload: "hello, wal".into(),
    };
    log.commit(&[promise, accept], 0).unwrap();
    let header = snapshot_header();
    snapshot::save(&disk, &header, &mut &b"state"[..]).unwrap();
    disk
}

fn snapshot_header() -> wal::SnapshotHeader {
    wal::SnapshotHeader {
        cluster: 0xc1,
        slot: 1,
        membership: "m".into(),
    }
}

/// Lines of sixteen bytes; runs of zeros are left out.
fn hex(out: &mut String, bytes: &[u8], from: u64) {
    let mut skipped = false;
    for (line, chunk) in bytes.chunks(16).enumerate() {
        if chunk.iter().all(|byte| *byte == 0) {
            if !skipped {
                out.push_str("*\n");
            }
            skipped = true;
            continue;
        }
        skipped = false;
        let _ = write!(out, "{:06x} ", from + line as u64 * 16);
        for (at, byte) in chunk.iter().enumerate() {
            let gap = if at == 8 { "  " } else { " " };
            let _ = write!(out, "{gap}{byte:02x}");
        }
        let text = chunk.iter().map(|b| {
            if b.is_ascii_graphic() {
                *b as char
            } else {
                '.'
            }
        });
        let _ = writeln!(out, "  |{}|", text.collect::<String>());
    }
}

fn printed() -> String {
    let disk = example();
    let mut out = String::new();
    let mut show = |title: &str, path: &str, from: u64, len: usize| {
        let _ = writeln!(out, "{title}\n\n```text");
        hex(&mut out, &disk.peek(path, from, len), from);
        let _ = writeln!(out, "```\n");
    };
    let segment = "wal/0000000000000001.wal";
    show("`wal/super.0`:", "wal/super.0", 0, 4096);
    show("Header of `wal/0000000000000001.wal`:", segment, 0, 4096);
    show("The marker that opening wrote:", segment, 4096, 4096);
    show(
        "The batch, a promise of ballot 3.1 and a value for slot 1:",
        segment,
        8192,
        4096,
    );
    let path = "snapshots/0000000000000001.snap";
    show(
        "A snapshot of slot 1 with the payload `state`:",
        path,
        0,
        4096 + 128 + 5 + 8 + 4 + 48,
    );
    let _ = writeln!(
        out,
        "Digest (`wal::digest`) of `hello, wal`: `{:016x}`\n",
        wal::digest(b"hello, wal")
    );
    out
}

#[test]
fn the_example_in_the_format_document_is_what_is_written() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/FORMAT.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (head, rest) = document.split_once(BEGIN).expect("a place for the example");
    let (recorded, tail) = rest.split_once(END).expect("an end of the example");
    let printed = format!("\n{}", printed());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, format!("{head}{BEGIN}{printed}{END}{tail}")).unwrap();
    } else {
        assert_eq!(
            recorded, printed,
            "UPDATE=1 writes the new example; is it still the same format?"
        );
    }
}
