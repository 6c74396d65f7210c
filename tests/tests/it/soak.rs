//! Case 11: ten clients of four kinds, five replicas, kills and restarts, loss, doubling, partitions:
//! progress in every 10 s window in which a majority was connected, and a history that can be.
//!
//! The default run has 20 s of it. The long one:
//!
//! ```text
//! HOLDFAST_SOAK_SECONDS=3600 cargo test -p tests --test it -- --ignored soak --nocapture
//! ```

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tests::harness::{Cluster, Plan};
use tests::proxy::Noise;

use crate::load::{Job, Load, Manner};

const REPLICAS: u16 = 5;
/// Three of five are always up and connected.
const AWAY_MAX: usize = 2;
/// In which somebody must get a section done.
const WINDOW: Duration = Duration::from_secs(10);
const LONG_SECONDS: u64 = 600;

#[test]
fn soak_for_a_moment() {
    soak(Duration::from_secs(20), seed());
}

#[test]
#[ignore = "ten minutes, or HOLDFAST_SOAK_SECONDS"]
fn soak_for_long() {
    let given = std::env::var("HOLDFAST_SOAK_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    soak(Duration::from_secs(given.unwrap_or(LONG_SECONDS)), seed());
}

/// Another one each time; `HOLDFAST_SOAK_SEED` repeats the faults, though not the timing.
fn seed() -> u64 {
    let given = std::env::var("HOLDFAST_SOAK_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| rand::rng().random())
}

fn soak(length: Duration, seed: u64) {
    println!("soak for {length:?}, HOLDFAST_SOAK_SEED={seed}");
    let mut cluster = Plan::new(REPLICAS)
        .with_links()
        .flag("--snapshot-after", "256KiB")
        .start();
    let load = start_clients(&cluster, seed);
    let mut faults = Faults::new(seed);
    let start = Instant::now();
    let (mut seen, mut since) = (0, Instant::now());
    while start.elapsed() < length {
        faults.strike(&mut cluster);
        if load.done() > seen {
            (seen, since) = (load.done(), Instant::now());
        }
        assert!(
            since.elapsed() < WINDOW,
            "no section in {WINDOW:?} though three of five were connected; {seen} before, {}",
            faults.tell()
        );
    }
    faults.mend(&mut cluster);
    cluster.leader();
    println!("{} sections, {}", load.done(), faults.tell());
    load.stop();
    cluster.check_sections();
}

/// Six that behave, three of them under locks of their own; two of many sessions, one that never
/// releases, one that sleeps past its lease.
fn start_clients(cluster: &Cluster, seed: u64) -> Load {
    use Manner::{ManySessions, NeverReleases, Normal, Sleeps};
    let manners = [
        Normal,
        Normal,
        Normal,
        ManySessions,
        ManySessions,
        NeverReleases,
        Sleeps,
    ];
    let shared = manners.map(|manner| Job::shared(manner, 3));
    let own = ["one", "two", "three"].map(|file| {
        let made = cluster.holdfast().args(["file", "create", file]).status();
        assert!(
            made.is_ok_and(|status| status.success()),
            "holdfast file create {file}"
        );
        Job::own(Normal, file)
    });
    let clients = shared.into_iter().chain(own).zip(0..).map(|(job, number)| {
        let client = cluster.client(&format!("w{number}"));
        let noise = Noise {
            lose_per_mille: 50,
            double_per_mille: 50,
            seed: seed ^ number,
        };
        client.rules().set_noise(Some(noise));
        (client, job)
    });
    Load::start(clients.collect())
}

/// Why a replica is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    Dead,
    CutOff,
}

struct Faults {
    dice: ChaCha8Rng,
    away: Vec<(u16, Away)>,
    kills: u32,
    cuts: u32,
}

impl Faults {
    fn new(seed: u64) -> Faults {
        Faults {
            dice: ChaCha8Rng::seed_from_u64(seed),
            away: Vec::new(),
            kills: 0,
            cuts: 0,
        }
    }

    /// Waits 0.1 to 1 s, then takes a replica away or brings one back.
    fn strike(&mut self, cluster: &mut Cluster) {
        std::thread::sleep(Duration::from_millis(self.dice.random_range(100..1_000)));
        if self.away.len() < AWAY_MAX && self.dice.random_bool(0.6) {
            self.take_away(cluster);
        } else if !self.away.is_empty() {
            let one = self.dice.random_range(0..self.away.len());
            let (id, why) = self.away.swap_remove(one);
            bring_back(cluster, id, why);
        }
    }

    fn take_away(&mut self, cluster: &mut Cluster) {
        let present: Vec<u16> = cluster
            .ids()
            .into_iter()
            .filter(|id| self.away.iter().all(|(away, _)| away != id))
            .collect();
        let id = present[self.dice.random_range(0..present.len())];
        if self.dice.random_bool(0.7) {
            cluster.kill(id);
            self.kills += 1;
            self.away.push((id, Away::Dead));
        } else {
            cluster.isolate(id);
            self.cuts += 1;
            self.away.push((id, Away::CutOff));
        }
    }

    fn mend(&mut self, cluster: &mut Cluster) {
        for (id, why) in self.away.drain(..) {
            bring_back(cluster, id, why);
        }
    }

    fn tell(&self) -> String {
        format!(
            "{} kills, {} partitions, away now {:?}",
            self.kills, self.cuts, self.away
        )
    }
}

fn bring_back(cluster: &mut Cluster, id: u16, why: Away) {
    match why {
        Away::Dead => cluster.start_replica(id),
        Away::CutOff => cluster.rejoin(id),
    }
}
