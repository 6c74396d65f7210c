//! Clusters that can agree must agree soon: one leader within 6 election timeouts, whatever shape
//! the network has, as long as somebody reaches a quorum both ways with a disk that works.

use paxos::{Admin, Input, NodeId, Role};

use crate::cluster::Shape;
use crate::timed::{E, Timed};
use crate::walks::number;

fn five_with_load(leader: u16, seed: u64) -> Timed {
    let mut timed = Timed::led_by(leader, Shape::of(5, seed));
    timed.assert_live(&[1, 2, 3, 4, 5]);
    timed
}

/// The target is 250 ms from the crash to the next success.
#[test]
fn a_crashed_leader_is_replaced_fast() {
    let mut took = Vec::new();
    for seed in 0..30 {
        let mut timed = Timed::led_by(1, Shape::of(3, seed));
        timed.assert_live(&[1, 2, 3]);
        timed.crash(NodeId(1));
        took.push(timed.assert_live(&[2, 3]));
    }
    took.sort_unstable();
    println!(
        "crash to next success: median {} us, worst {} us",
        took[15], took[29]
    );
    assert!(took[15] < 150_000, "median {} us", took[15]);
    assert!(took[29] < 2 * E);
}

/// No connection breaks, the leader is only silent: the full timeout must pass.
#[test]
fn a_silent_leader_is_replaced() {
    for seed in 0..10 {
        let mut timed = Timed::led_by(1, Shape::of(3, seed));
        timed.isolate(NodeId(1));
        // Nothing is proposed meanwhile: only the missing answers can tell the old leader.
        timed.run(2 * E);
        assert_ne!(timed.role(1), Some(Role::Leader), "check-quorum");
        timed.assert_live(&[2, 3]);
    }
}

/// The leader lost its quorum, and only the hub reaches everybody.
/// Source: Ng, Haridi, Carbone, "Omni-Paxos" (EuroSys 2023), quorum-loss scenario.
#[test]
fn quorum_loss() {
    for seed in 0..10 {
        let mut timed = five_with_load(3, seed);
        timed.only_connect(&[(1, 2), (1, 3), (1, 4), (1, 5)]);
        timed.assert_live(&[1, 2, 4, 5]);
        timed.run(4 * E);
        assert_eq!(timed.leader(), Some(NodeId(1)), "seed {seed}");
    }
}

/// Only a replica with an old log reaches a quorum. Same source, constrained election.
#[test]
fn constrained_election() {
    for seed in 0..10 {
        let mut timed = five_with_load(3, seed);
        timed.isolate(NodeId(1));
        for _ in 0..5 {
            timed.assert_live(&[2, 3, 4, 5]);
        }
        assert!(timed.chosen(1) < timed.chosen(2));
        timed.only_connect(&[(1, 2), (1, 4), (1, 5)]);
        timed.assert_live(&[1, 2, 4, 5]);
        assert_eq!(timed.leader(), Some(NodeId(1)), "seed {seed}");
    }
}

/// 1 - 2 - 3 in a row, the leader at an end. Same source, chained scenario: no leader may be
/// deposed over and over.
#[test]
fn chain() {
    for seed in 0..10 {
        let mut timed = Timed::led_by(1, Shape::of(3, seed));
        timed.assert_live(&[1, 2, 3]);
        timed.only_connect(&[(1, 2), (2, 3)]);
        timed.run(6 * E);
        timed.assert_live(&[1, 2]);
        let before = timed.elections;
        timed.run(20 * E);
        assert_eq!(timed.elections, before, "seed {seed}: leadership flaps");
        // The far end learns what is chosen from the middle.
        timed.assert_live(&[1, 2]);
        let chosen = timed.chosen(2);
        assert!(
            timed.run_until(6 * E, |t| t.chosen(3) >= chosen).is_some(),
            "seed {seed}"
        );
    }
}

/// The leader's disk hangs; its heartbeats alone must not keep the others quiet.
#[test]
fn a_stalled_disk_gives_leadership_away() {
    for seed in 0..10 {
        let mut timed = Timed::led_by(1, Shape::of(3, seed));
        timed.assert_live(&[1, 2, 3]);
        timed.stalled.insert(NodeId(1));
        timed.cluster.propose(NodeId(1), b"x").unwrap();
        let moved = timed.run_until(6 * E, |t| t.leader().is_some_and(|l| l != NodeId(1)));
        assert!(moved.is_some(), "seed {seed}");
        timed.assert_live(&[2, 3]);
        let before = timed.elections;
        timed.run(10 * E);
        assert_eq!(
            timed.elections, before,
            "seed {seed}: a stalled disk stands for election"
        );
        timed.stalled.clear();
        timed.assert_live(&[1, 2, 3]);
    }
}

/// A follower's disk that hangs for ever disturbs nobody.
#[test]
fn a_stalled_follower_disturbs_nobody() {
    let mut timed = Timed::led_by(1, Shape::of(3, 5));
    timed.stalled.insert(NodeId(3));
    for _ in 0..20 {
        timed.assert_live(&[1, 2]);
        timed.run(E / 2);
    }
    assert_eq!((timed.leader(), timed.elections), (Some(NodeId(1)), 1));
}

/// The leader is heard but hears nobody; and the other way round.
#[test]
fn one_way_cuts() {
    for seed in 0..10 {
        for deaf in [true, false] {
            let mut timed = Timed::led_by(1, Shape::of(3, seed));
            timed.assert_live(&[1, 2, 3]);
            for other in [2, 3].map(NodeId) {
                let pair = if deaf {
                    (other, NodeId(1))
                } else {
                    (NodeId(1), other)
                };
                timed.cut.insert(pair);
            }
            timed.run(2 * E);
            timed.assert_live(&[2, 3]);
            assert_ne!(timed.leader(), Some(NodeId(1)));
        }
    }
}

/// Pre-vote: whoever was cut off and comes back costs no election.
#[test]
fn a_rejoining_follower_deposes_nobody() {
    let mut timed = Timed::led_by(1, Shape::of(3, 7));
    timed.isolate(NodeId(3));
    timed.run(10 * E);
    timed.assert_live(&[1, 2]);
    timed.cut.clear();
    timed.assert_live(&[1, 2, 3]);
    timed.run(4 * E);
    assert_eq!((timed.leader(), timed.elections), (Some(NodeId(1)), 1));
}

/// A leader that was paused wakes into another's leadership and follows.
#[test]
fn a_paused_leader_follows_when_it_wakes() {
    let mut timed = Timed::led_by(1, Shape::of(3, 8));
    timed.assert_live(&[1, 2, 3]);
    timed.paused.insert(NodeId(1));
    timed.cluster.read(NodeId(1)).unwrap();
    timed.run(3 * E);
    timed.assert_live(&[2, 3]);
    let answered = timed.cluster.reads_answered;
    timed.paused.clear();
    timed.assert_live(&[1, 2, 3]);
    assert_eq!(timed.role(1), Some(Role::Follower));
    assert_eq!(
        timed.cluster.reads_answered, answered,
        "its old read is not answered"
    );
}

#[test]
fn a_paused_follower_deposes_nobody() {
    let mut timed = Timed::led_by(1, Shape::of(3, 9));
    timed.paused.insert(NodeId(2));
    timed.run(5 * E);
    timed.paused.clear();
    timed.assert_live(&[1, 2, 3]);
    timed.run(3 * E);
    assert_eq!((timed.leader(), timed.elections), (Some(NodeId(1)), 1));
}

#[test]
fn leadership_is_handed_over_on_request() {
    let mut timed = Timed::led_by(1, Shape::of(3, 10));
    timed.assert_live(&[1, 2, 3]);
    timed
        .cluster
        .step(NodeId(1), Input::Admin(Admin::Transfer { to: NodeId(3) }))
        .unwrap();
    let took = timed.run_until(E, |t| t.leader() == Some(NodeId(3)));
    assert!(took.is_some_and(|us| us < 20_000), "{took:?}");
    timed.assert_live(&[1, 2, 3]);
    assert_eq!(timed.elections, 2);
    assert!(
        timed.cluster.rejected.is_empty(),
        "nothing was lost on the way"
    );
}

/// The other never answers: the old leader goes on.
#[test]
fn a_failed_hand_over_ends() {
    let mut timed = Timed::led_by(1, Shape::of(3, 11));
    timed.isolate(NodeId(3));
    timed
        .cluster
        .step(NodeId(1), Input::Admin(Admin::Transfer { to: NodeId(3) }))
        .unwrap();
    timed.cluster.propose(NodeId(1), b"x").unwrap();
    assert_eq!(timed.cluster.rejected.len(), 1, "busy while it lasts");
    timed.run(2 * E);
    timed.assert_live(&[1, 2]);
    assert_eq!(timed.leader(), Some(NodeId(1)));
}

#[test]
fn the_lowest_id_leads_if_preferred() {
    let shape = Shape {
        prefer_lowest_id: true,
        ..Shape::of(3, 12)
    };
    let mut timed = Timed::led_by(3, shape);
    let moved = timed.run_until(6 * E, |t| t.leader() == Some(NodeId(1)));
    assert!(moved.is_some());
    timed.crash(NodeId(1));
    timed.assert_live(&[2, 3]);
    let moved = timed.run_until(6 * E, |t| t.leader() == Some(NodeId(2)));
    assert!(moved.is_some(), "the lowest that lives");
    timed.cluster.start(NodeId(1)).unwrap();
    let moved = timed.run_until(6 * E, |t| t.leader() == Some(NodeId(1)));
    assert!(moved.is_some(), "and back");
    timed.run(10 * E);
    timed.assert_live(&[1, 2, 3]);
    assert_eq!(timed.leader(), Some(NodeId(1)));
}

/// What left memory comes from the log.
#[test]
fn a_replica_far_behind_catches_up_from_the_log() {
    let shape = Shape {
        tail_bytes: 0,
        ..Shape::of(3, 13)
    };
    let mut timed = Timed::led_by(1, shape);
    timed.crash(NodeId(3));
    let text = vec![b'x'; 50_000];
    for _ in 0..100 {
        timed.cluster.propose(NodeId(1), &text).unwrap();
        timed.run(3_000);
    }
    let chosen = timed.chosen(1);
    assert!(chosen.0 > 100);
    timed.cluster.start(NodeId(3)).unwrap();
    let took = timed.run_until(E, |t| t.chosen(3) >= chosen);
    assert!(took.is_some(), "5 MB in half a second");
    assert_eq!(timed.elections, 1);
}

#[test]
fn a_sole_replica_leads_at_once() {
    let mut timed = Timed::new(Shape::of(1, 14));
    let took = timed.run_until(E, |t| t.leader().is_some());
    assert!(took.is_some_and(|us| us < 5_000), "{took:?}");
    timed.assert_live(&[1]);
    timed.cluster.read(NodeId(1)).unwrap();
    assert_eq!(timed.cluster.reads_answered, 1);
    timed.crash(NodeId(1));
    timed.cluster.start(NodeId(1)).unwrap();
    timed.assert_live(&[1]);
}

/// Anything may go wrong for a while; then a random quorum is healed and must agree.
#[test]
fn storms_end() {
    let seeds = number("PAXOS_STORMS").unwrap_or(150);
    for seed in 0..seeds {
        storm(seed);
    }
}

fn storm(seed: u64) {
    let nodes = if seed.is_multiple_of(3) { 5 } else { 3 };
    let mut timed = Timed::new(Shape::of(nodes, seed));
    timed.loss_percent = [0, 1, 10][timed.dice.below(3)];
    let mut dead = Vec::new();
    for _ in 0..30 {
        trouble(&mut timed, &mut dead);
        for leader in timed.cluster.leaders() {
            timed.cluster.propose(leader, b"storm").unwrap();
            timed.cluster.read(leader).unwrap();
        }
        let us = timed.dice.below(200_000) as u64;
        timed.run(us);
    }
    // The liveness phase: a quorum is healed, the rest stays as it is.
    timed.loss_percent = 0;
    timed.stalled.clear();
    timed.paused.clear();
    let mut core: Vec<u16> = (1..=nodes).collect();
    while core.len() > usize::from(nodes) / 2 + 1 {
        let out = core.remove(timed.dice.below(core.len()));
        timed.isolate(NodeId(out));
    }
    for &a in &core {
        if let Some(at) = dead.iter().position(|node| *node == NodeId(a)) {
            dead.remove(at);
            timed.cluster.start(NodeId(a)).unwrap();
        }
        for &b in &core {
            timed.cut.remove(&(NodeId(a), NodeId(b)));
        }
    }
    timed.assert_live(&core);
}

fn trouble(timed: &mut Timed, dead: &mut Vec<NodeId>) {
    let nodes = timed.cluster.nodes();
    let node = timed.dice.pick(&nodes).expect("some nodes");
    let other = timed.dice.pick(&nodes).expect("some nodes");
    match timed.dice.below(10) {
        0..2 if dead.contains(&node) => {
            dead.retain(|dead| *dead != node);
            timed.cluster.start(node).unwrap();
        }
        0 => {
            dead.push(node);
            timed.crash(node);
        }
        2 => drop(timed.cut.insert((node, other))),
        3 => timed.isolate(node),
        4 | 5 => timed.cut.clear(),
        6 => drop(timed.stalled.insert(node)),
        7 => timed.stalled.clear(),
        8 => drop(timed.paused.insert(node)),
        _ => timed.paused.clear(),
    }
}
