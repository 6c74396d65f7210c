//! Clusters that are slow rather than broken: disks that take a good part of an election timeout, a
//! processor that gives a turn only now and then, links with little bandwidth, leaders that cannot
//! serve. They must agree all the same, and one leader must stay.

use paxos::{Input, NodeId, Role};

use crate::cluster::Shape;
use crate::timed::{E, Timed};

/// Proposes at whoever leads every 50 ms; gives the longest time without a newly chosen slot.
fn load(timed: &mut Timed, us: u64) -> u64 {
    let end = timed.now().after(us);
    let (mut longest, mut last, mut at) = (0, timed.cluster.ghost.published(), timed.now());
    while timed.now() < end {
        for leader in timed.cluster.leaders() {
            timed.cluster.propose(leader, b"load").unwrap();
        }
        timed.run(50_000);
        let chosen = timed.cluster.ghost.published();
        if chosen > last {
            (last, at) = (chosen, timed.now());
        }
        longest = longest.max(timed.now().since(at));
    }
    longest
}

/// With 200 and 300 ms a sync on every disk and E = 500 ms a leader is found soon and stays.
#[test]
fn slow_disks_everywhere_keep_one_leader() {
    for sync_us in [200_000, 300_000] {
        for seed in 0..10 {
            let mut timed = Timed::new(Shape::of(3, seed));
            timed.sync_us = (1..=3).map(|n| (NodeId(n), sync_us)).collect();
            let found = timed.run_until(20 * E, |t| t.leader().is_some());
            assert!(
                found.is_some(),
                "{sync_us} us a sync, seed {seed}: no leader"
            );
            load(&mut timed, 4 * E);
            let before = timed.elections;
            let longest = load(&mut timed, 40 * E);
            assert_eq!(timed.elections, before, "{sync_us} us a sync, seed {seed}");
            assert!(
                longest < 3 * E,
                "{longest} us without a commit, seed {seed}"
            );
        }
    }
}

/// Two disks are slow, one is not: it is worth handing leadership to.
#[test]
fn a_measurably_better_disk_leads() {
    for seed in 0..10 {
        let mut timed = Timed::led_by(1, Shape::of(3, seed));
        timed.sync_us = [(NodeId(1), 300_000), (NodeId(2), 300_000)].into();
        load(&mut timed, 10 * E);
        assert_eq!(timed.leader(), Some(NodeId(3)), "seed {seed}");
        let before = timed.elections;
        load(&mut timed, 20 * E);
        assert_eq!(timed.elections, before, "seed {seed}");
    }
}

/// Nobody else could lead: a lone replica waits for its disk however long that takes.
#[test]
fn a_sole_voter_waits_for_its_disk() {
    for sync_us in [400_000, 1_500_000] {
        let mut timed = Timed::new(Shape::of(1, 3));
        timed.sync_us = [(NodeId(1), sync_us)].into();
        timed.run(4 * sync_us);
        assert_eq!(timed.role(1), Some(Role::Leader), "{sync_us} us a sync");
        load(&mut timed, 20 * E);
        assert_eq!((timed.role(1), timed.elections), (Some(Role::Leader), 1));
    }
}

/// A leader whose every turn is late hears nobody: being late excuses it once, not for ever.
#[test]
fn late_turns_do_not_keep_a_deaf_leader() {
    for seed in 0..10 {
        let mut timed = Timed::led_by(1, Shape::of(3, seed));
        timed.late_us = [(NodeId(1), 150_000)].into();
        for other in [2, 3] {
            timed.cut.insert((NodeId(other), NodeId(1)));
        }
        timed.run(4 * E);
        assert_ne!(timed.role(1), Some(Role::Leader), "seed {seed}");
        timed.assert_live(&[2, 3]);
    }
}

/// Every turn everywhere is late: reads are answered and the leader stays.
#[test]
fn late_turns_everywhere_answer_reads() {
    for seed in 0..10 {
        let mut timed = Timed::led_by(1, Shape::of(3, seed));
        timed.late_us = (1..=3).map(|n| (NodeId(n), 160_000)).collect();
        timed.run(2 * E);
        for _ in 0..40 {
            for leader in timed.cluster.leaders() {
                timed.cluster.read(leader).unwrap();
            }
            timed.run(E / 2);
        }
        let answered = timed.cluster.reads_answered;
        assert!(answered >= 35, "{answered} of 40 reads, seed {seed}");
    }
}

/// Followers whose turns are late still notice that the leader is gone.
#[test]
fn late_turns_do_not_put_off_elections_for_ever() {
    for seed in 0..10 {
        let mut timed = Timed::led_by(1, Shape::of(3, seed));
        timed.late_us = [(NodeId(2), 120_000), (NodeId(3), 130_000)].into();
        timed.run(2 * E);
        timed.isolate(NodeId(1));
        let found = timed.run_until(12 * E, |t| t.leader().is_some_and(|l| l != NodeId(1)));
        assert!(found.is_some(), "seed {seed}");
    }
}

/// Five replicas; the lowest id, which is preferred, reaches nobody but the leader. Handing over to it fails
/// each time, and is tried ever more seldom, whoever led in between.
#[test]
fn a_preferred_replica_without_a_quorum_is_left_alone() {
    for seed in 0..5 {
        let shape = Shape {
            prefer_lowest_id: true,
            ..Shape::of(5, seed)
        };
        let mut timed = Timed::led_by(2, shape);
        for other in [3, 4, 5] {
            timed.cut.insert((NodeId(1), NodeId(other)));
            timed.cut.insert((NodeId(other), NodeId(1)));
        }
        timed.run(20 * E);
        let before = timed.elections;
        timed.run(100 * E);
        let more = timed.elections - before;
        assert!(more <= 10, "{more} elections in 50 s, seed {seed}");
        timed.cut.clear();
        let back = timed.run_until(400 * E, |t| t.leader() == Some(NodeId(1)));
        assert!(back.is_some(), "it is tried again once it reaches all");
    }
}

const MBIT_50: u64 = 50_000_000 / 8;

/// The leader dies with 7 MiB that nobody chose; the two others are a slow link apart and one of
/// them may hold none of it.
#[test]
fn a_slow_link_carries_an_election() {
    for seed in 0..6 {
        for reach in [&[2, 3][..], &[3][..]] {
            let mut timed = Timed::led_by(1, Shape::of(3, seed));
            timed.assert_live(&[1, 2, 3]);
            for other in [2, 3] {
                timed.cut.insert((NodeId(other), NodeId(1)));
                if !reach.contains(&other) {
                    timed.cut.insert((NodeId(1), NodeId(other)));
                }
            }
            for _ in 0..7 {
                let bytes = vec![b'x'; 1_000_000];
                timed.cluster.propose(NodeId(1), &bytes).unwrap();
                timed.run(10_000);
            }
            timed.bandwidth = Some(MBIT_50);
            timed.crash(NodeId(1));
            let found = timed.run_until(20 * E, |t| t.leader().is_some());
            assert!(found.is_some(), "seed {seed}, reach {reach:?}: no leader");
            let before = timed.elections;
            timed.run(4 * E);
            timed.assert_live(&[2, 3]);
            assert_eq!(timed.elections, before, "seed {seed}, reach {reach:?}");
        }
    }
}

/// Small entries on a link of 4 Mbit/s: pieces shrink until none outlasts an election timeout.
#[test]
fn pieces_shrink_to_what_a_link_carries() {
    for seed in 0..6 {
        let mut timed = Timed::led_by(1, Shape::of(3, seed));
        timed.isolate(NodeId(3));
        for _ in 0..300 {
            timed.cluster.propose(NodeId(1), &[b'x'; 8_000]).unwrap();
            timed.run(2_000);
        }
        timed.bandwidth = Some(4_000_000 / 8);
        timed.cut.clear();
        let chosen = timed.chosen(1);
        let before = timed.elections;
        // From here on the slow one is needed for a quorum.
        timed.crash(NodeId(2));
        let took = timed.run_until(40 * E, |t| t.chosen(3) >= chosen);
        assert!(took.is_some(), "seed {seed}: 2.4 MB at 500 kB/s");
        assert_eq!(timed.elections, before, "seed {seed}");
    }
}

/// A leader without room for its log, or that cannot apply, hands over to a replica that can do
/// both; where there is none it goes on leading.
#[test]
fn a_leader_in_trouble_hands_over() {
    for (low, blocked) in [(true, false), (false, true)] {
        let trouble = |low, blocked| Input::Condition(paxos::Condition { low, blocked });
        let mut timed = Timed::led_by(1, Shape::of(3, 21));
        timed.assert_live(&[1, 2, 3]);
        timed
            .cluster
            .step(NodeId(2), trouble(low, blocked))
            .unwrap();
        timed.run(E / 4);
        timed
            .cluster
            .step(NodeId(1), trouble(low, blocked))
            .unwrap();
        let took = timed.run_until(E, |t| t.leader() == Some(NodeId(3)));
        assert!(
            took.is_some(),
            "within an election timeout, to the one with room"
        );
        timed.assert_live(&[1, 2, 3]);
        timed
            .cluster
            .step(NodeId(3), trouble(low, blocked))
            .unwrap();
        let before = timed.elections;
        timed.run(20 * E);
        timed.assert_live(&[1, 2, 3]);
        assert_eq!(timed.elections, before, "nobody is better off");
        timed
            .cluster
            .step(NodeId(2), trouble(false, false))
            .unwrap();
        let took = timed.run_until(E, |t| t.leader() == Some(NodeId(2)));
        assert!(took.is_some(), "there is room again");
    }
}

/// A new leader does not flee to peers that it has not heard of yet: they may be no better off.
#[test]
fn where_all_are_in_trouble_the_lead_stays_where_it_is() {
    for seed in 0..20 {
        let mut timed = Timed::led_by(1, Shape::of(3, seed));
        timed.assert_live(&[1, 2, 3]);
        for node in 1..=3 {
            let low = Input::Condition(paxos::Condition {
                low: true,
                blocked: false,
            });
            timed.cluster.step(NodeId(node), low).unwrap();
        }
        timed.run(4 * E);
        timed.crash(NodeId(1));
        let took = timed.run_until(8 * E, |t| matches!(t.leader(), Some(NodeId(2 | 3))));
        assert!(took.is_some(), "seed {seed}: another leads");
        let before = timed.elections;
        timed.run(20 * E);
        assert_eq!(timed.elections, before, "seed {seed}: nobody is better off");
    }
}

/// Whatever is preferred, nobody hands leadership to a replica that could not serve.
#[test]
fn a_replica_in_trouble_is_not_preferred() {
    let shape = Shape {
        prefer_lowest_id: true,
        ..Shape::of(3, 22)
    };
    let mut timed = Timed::led_by(2, shape);
    let blocked = |blocked| {
        Input::Condition(paxos::Condition {
            low: false,
            blocked,
        })
    };
    timed.cluster.step(NodeId(1), blocked(true)).unwrap();
    timed.run(20 * E);
    assert_eq!((timed.leader(), timed.elections), (Some(NodeId(2)), 1));
    timed.cluster.step(NodeId(1), blocked(false)).unwrap();
    let took = timed.run_until(6 * E, |t| t.leader() == Some(NodeId(1)));
    assert!(took.is_some());
}
