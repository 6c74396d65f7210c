//! How a replica stands is told quickly, however large its state is.

use std::sync::Arc;
#[expect(
    clippy::disallowed_types,
    reason = "two works are compared with each other"
)]
use std::time::{Duration, Instant};

use paxos::birth::BirthRecord;
use paxos::{DiskId, MonoTime, NodeId};
use replica::boot::{self, BootConfig};
use replica::engine::{Engine, Input, Now, Output};
use wal::Environment;
use wal::storage::{MemDisk, SharedDisk};

/// A sole replica whose state has 20,000 files.
fn large() -> Engine {
    let disk: SharedDisk = Arc::new(MemDisk::new());
    let mut config = BootConfig::new(NodeId(1));
    config.settings.files = 20_000;
    let mut folder = boot::open_folder(disk.clone(), config.node, Environment::seeded(1))
        .expect("an empty disk is laid out");
    let record = BirthRecord {
        cluster: 7,
        name: "test".to_owned(),
        members: vec![(config.node, DiskId(folder.meta().disk))],
    };
    folder
        .store_birth(record.cluster, &record.encode())
        .expect("stored");
    let mut now = Now {
        mono: MonoTime(1_000_000),
        wall_ms: 5,
    };
    let booted = boot::boot(folder, disk, &config, now.mono).expect("it starts");
    let mut engine = booted.engine;
    let mut out = Output::default();
    while engine.machine().settings().is_none() {
        now.mono = now.mono.after(100_000);
        engine.handle(now, Input::Tick, &mut out);
        engine.finish(now, &mut out);
        // Its disk is always up to date.
        while let Some(seq) = out.wal.last().map(|append| append.seq) {
            out.wal.clear();
            engine.handle(now, Input::Durable { seq }, &mut out);
            engine.finish(now, &mut out);
        }
    }
    engine
}

/// The quickest of several, since a busy machine may put any one of them off.
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "two works are compared with each other"
)]
fn took(times: u32, work: impl Fn()) -> Duration {
    let once = |_| {
        let started = Instant::now();
        work();
        started.elapsed()
    };
    (0..times).map(once).min().expect("some")
}

/// Whoever looks for the leader of a cluster with a large state is answered as quickly as with a small one.
#[test]
fn how_it_stands_is_told_without_a_look_at_the_whole_state() {
    let engine = large();
    let told = took(20, || drop(std::hint::black_box(engine.status())));
    let whole = took(3, || {
        let mut bytes = Vec::new();
        let machine = engine.machine();
        machine.encode_snapshot(&mut bytes).expect("to memory");
        assert!(bytes.len() > 400_000);
    });
    assert!(10 * told < whole, "{told:?} against {whole:?}");
}
