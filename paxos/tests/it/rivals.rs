//! Elections in which more than one replica wants to lead: one of them must win soon.

use std::collections::BTreeMap;

use paxos::{Admin, Input, NodeId, Role};

use crate::cluster::Shape;
use crate::timed::{E, Timed};

/// The leader dies, both followers notice at once, and a promise takes a moment: the first candidacy wins
/// nearly always, and waiting for each other costs no time.
#[test]
fn the_first_candidacy_wins() {
    const RUNS: u64 = 300;
    let mut later = 0;
    let mut took = Vec::new();
    for seed in 0..RUNS {
        let mut timed = Timed::led_by(1, Shape::of(3, seed));
        timed.sync_us = [(NodeId(2), 4_000), (NodeId(3), 6_000)].into();
        timed.assert_live(&[1, 2, 3]);
        // Some moment between two heartbeats.
        timed.run(seed * 7_919 % 50_000);
        let before = timed.round();
        timed.crash(NodeId(1));
        let found = timed.run_until(6 * E, |t| t.leader().is_some());
        took.push(found.expect("a leader"));
        later += u64::from(timed.round() > before + 1);
    }
    took.sort_unstable();
    println!(
        "{later} of {RUNS} elections took a later candidacy; median {} us, longest {} us",
        took[took.len() / 2],
        took[took.len() - 1]
    );
    assert!(later <= RUNS / 100, "{later} of {RUNS}");
}

fn campaign(timed: &mut Timed, node: u16) {
    let input = Input::Admin(Admin::Campaign);
    timed.cluster.step(NodeId(node), input).unwrap();
}

/// Every disk takes 300 ms a sync, the leader has died and started again, and a follower, whose number is given,
/// has just stood for election.
fn slow_candidacy(seed: u64) -> (Timed, u16) {
    let mut timed = Timed::led_by(1, Shape::of(3, seed));
    timed.sync_us = (1..=3).map(|node| (NodeId(node), 300_000)).collect();
    for _ in 0..3 {
        timed.assert_live(&[1, 2, 3]);
    }
    timed.run(E);
    timed.crash(NodeId(1));
    timed.cluster.start(NodeId(1)).unwrap();
    let stands = |timed: &Timed, node| timed.role(node) == Some(Role::Candidate);
    let found = timed.run_until(2 * E, |t| stands(t, 2) || stands(t, 3));
    assert!(found.is_some(), "nobody stands, seed {seed}");
    let candidate = if stands(&timed, 2) { 2 } else { 3 };
    (timed, candidate)
}

/// A replica that starts, and so has pledged nothing, asks while the candidate's own promise, or that of a
/// supporter, is on its way to the disk.
#[test]
fn a_candidacy_under_way_is_left_alone() {
    let mut asked = 0;
    for seed in 0..20 {
        for at_us in [100_000, 650_000, 1_100_000] {
            let (mut timed, candidate) = slow_candidacy(seed);
            let round = timed.round();
            timed.run(at_us);
            if timed.role(5 - candidate) != Some(Role::Follower) {
                continue; // It missed the leader a moment later than the candidate, and has refused it.
            }
            asked += 1;
            timed.crash(NodeId(1));
            timed.cluster.start(NodeId(1)).unwrap();
            campaign(&mut timed, 1);
            let found = timed.run_until(4 * E, |t| t.leader().is_some());
            assert!(found.is_some(), "seed {seed}: no leader");
            assert_eq!(
                (timed.leader(), timed.round()),
                (Some(NodeId(candidate)), round),
                "asked after {at_us} us, seed {seed}"
            );
        }
    }
    assert!(asked >= 30, "only {asked} cases");
}

/// A candidate dies: those who supported it do not wait for it.
#[test]
fn a_dead_candidate_holds_nobody_back() {
    for seed in 0..10 {
        for at_us in [100_000, 700_000] {
            let (mut timed, candidate) = slow_candidacy(seed);
            timed.run(at_us);
            timed.crash(NodeId(candidate));
            // What was promised to it takes up to 0.6 s, and so do both promises of the next candidacy.
            let took = timed.run_until(5 * E, |t| t.leader().is_some());
            assert!(took.is_some(), "it died after {at_us} us, seed {seed}");
        }
    }
}

/// Every disk takes 100 to 300 ms a sync, so a candidacy needs more than E, and one replica comes and goes: the
/// other two agree all the same.
#[test]
fn a_replica_that_comes_and_goes_does_not_keep_slow_disks_from_electing() {
    let mut gaps = Vec::new();
    for seed in 0..60 {
        let mut timed = Timed::new(Shape::of(3, seed));
        let end = timed.now().after(40 * E);
        let (mut last, mut at, mut longest) = (timed.cluster.ghost.published(), timed.now(), 0);
        let mut strike_at = timed.now();
        while timed.now() < end {
            timed.sync_us = (1..=3)
                .map(|node| (NodeId(node), 100_000 + timed.dice.below(200_000) as u64))
                .collect::<BTreeMap<_, _>>();
            if timed.now() >= strike_at {
                strike_at = timed.now().after(timed.dice.below(4 * E as usize) as u64);
                if timed.role(3).is_some() {
                    timed.crash(NodeId(3));
                } else {
                    timed.cluster.start(NodeId(3)).unwrap();
                }
            }
            for leader in timed.cluster.leaders() {
                timed.cluster.propose(leader, b"load").unwrap();
            }
            timed.run(20_000);
            let chosen = timed.cluster.ghost.published();
            if chosen > last {
                (last, at) = (chosen, timed.now());
            }
            longest = longest.max(timed.now().since(at));
        }
        gaps.push((longest, seed));
    }
    gaps.sort_unstable();
    println!("longest times without a commit: {:?}", &gaps[50..]);
    let (longest, seed) = gaps[gaps.len() - 1];
    assert!(
        longest < 10 * E,
        "{longest} us without a commit, seed {seed}"
    );
}
