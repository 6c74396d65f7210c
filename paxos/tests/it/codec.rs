//! Messages as bytes: the layout stays, any message comes back, any bytes are survived.

use bytes::Bytes;
use expect_test::expect;
use paxos::birth::BirthRecord;
use paxos::message::{
    Accept, Accepted, ChosenChunk, Faulty, FetchChosen, Heartbeat, HeartbeatAck, Held, Nack,
    Objection, Prepare, Probe, ProbeReply, Promise, Resync, Run, TransferNow, Verdict, Witness,
};
use paxos::{
    Ballot, Condition, DecodeError, DiskId, Entry, EntryKind, Input, Life, Mark, Memory, Message,
    NodeId, Slot, Testimony,
};
use proptest::prelude::*;

use crate::cluster::{Cluster, Shape};

fn slots() -> impl Strategy<Value = Slot> {
    prop_oneof![(0u64..12), (0u64..=1 << 62)].prop_map(Slot)
}

fn ballots() -> impl Strategy<Value = Ballot> {
    let round = prop_oneof![(0u64..6), (0u64..=1 << 47)];
    (round, 0u16..4).prop_map(|(round, node)| Ballot::new(round, NodeId(node)))
}

fn entries() -> impl Strategy<Value = Entry> {
    let kinds = prop_oneof![
        Just(EntryKind::App),
        Just(EntryKind::LeaderStart),
        Just(EntryKind::Settings),
        Just(EntryKind::Time),
    ];
    let payload = prop::collection::vec(any::<u8>(), 0..20);
    (kinds, ballots(), any::<u64>(), payload)
        .prop_map(|(kind, birth, stamp, payload)| Entry::new(kind, birth, stamp, 0, &payload))
}

fn lists() -> impl Strategy<Value = Vec<Entry>> {
    prop::collection::vec(entries(), 0..4)
}

fn reports() -> impl Strategy<Value = Vec<Held>> {
    let held = (ballots(), any::<bool>(), prop::option::of(entries()));
    let held = held.prop_map(|(ballot, chosen, entry)| Held {
        ballot,
        chosen,
        entry,
    });
    prop::collection::vec(held, 0..4)
}

fn runs() -> impl Strategy<Value = Vec<Run>> {
    let run = (slots(), slots(), ballots());
    let run = run.prop_map(|(from, to, ballot)| Run { from, to, ballot });
    prop::collection::vec(run, 0..3)
}

fn faults() -> impl Strategy<Value = Vec<Faulty>> {
    let range = (slots(), slots(), ballots());
    let range = range.prop_map(|(from, to, ballot_max)| Faulty {
        from,
        to,
        ballot_max,
    });
    prop::collection::vec(range, 0..2)
}

fn testimonies() -> impl Strategy<Value = Testimony> {
    let n = any::<u64>;
    let memory = (0u64..3, 0u64..3, ballots(), slots(), slots());
    let memory = memory.prop_map(|(incarnation, start, ballot, accepted, last)| Memory {
        life: Life { incarnation, start },
        ballot,
        accepted,
        last,
    });
    let mark = (slots(), n(), slots(), n());
    (0u16..4, memory, mark).prop_map(
        |(node, memory, (slot, chain, state_slot, state))| Testimony {
            node: NodeId(node),
            memory,
            mark: Mark {
                slot,
                chain,
                state_slot,
                state,
            },
        },
    )
}

fn witnesses() -> impl Strategy<Value = Vec<Testimony>> {
    prop::collection::vec(testimonies(), 0..3)
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Grant),
        Just(Verdict::Sticky),
        Just(Verdict::BallotTooLow),
        Just(Verdict::TooOld),
    ]
}

fn messages() -> impl Strategy<Value = Message> {
    let (b, s, n) = (ballots, slots, any::<u64>);
    prop_oneof![
        (b(), s(), s(), n()).prop_map(|(would_be, chosen, last, promise_us)| Message::Probe(
            Probe {
                would_be,
                chosen,
                last,
                promise_us,
            }
        )),
        (b(), verdicts(), b(), s(), s(), s()).prop_map(
            |(would_be, verdict, promised, chosen, first, last)| Message::ProbeReply(ProbeReply {
                would_be,
                verdict,
                promised,
                chosen,
                first,
                last
            })
        ),
        (b(), s(), any::<u32>(), runs()).prop_map(|(ballot, from, max_bytes, have)| {
            Message::Prepare(Prepare {
                ballot,
                from,
                max_bytes,
                have,
            })
        }),
        (b(), s(), s(), s(), s(), reports(), faults(), witnesses()).prop_map(
            |(ballot, first, chosen, last, start, held, faulty, witness)| Message::Promise(
                Promise {
                    ballot,
                    first,
                    chosen,
                    last,
                    start,
                    held,
                    faulty,
                    witness
                }
            )
        ),
        (b(), b()).prop_map(|(refused, promised)| Message::Nack(Nack { refused, promised })),
        (b(), s(), lists(), s(), n()).prop_map(|(ballot, prev, entries, commit, round)| {
            Message::Accept(Accept {
                ballot,
                prev,
                entries,
                commit,
                round,
            })
        }),
        (b(), s(), s(), s(), n(), n()).prop_map(
            |(ballot, upto, received, chosen, wal_age_us, round)| Message::Accepted(Accepted {
                ballot,
                upto,
                received,
                chosen,
                wal_age_us,
                round
            })
        ),
        (b(), s(), n(), s(), witnesses()).prop_map(|(ballot, commit, round, needed, witness)| {
            Message::Heartbeat(Heartbeat {
                ballot,
                commit,
                round,
                needed,
                witness,
            })
        }),
        (
            b(),
            n(),
            s(),
            s(),
            s(),
            s(),
            (n(), s(), n(), any::<[bool; 2]>(), testimonies())
        )
            .prop_map(|(ballot, round, upto, received, chosen, applied, disk)| {
                let (wal_age_us, recorded, sync_us, [low, blocked], own) = disk;
                Message::HeartbeatAck(HeartbeatAck {
                    ballot,
                    round,
                    upto,
                    received,
                    chosen,
                    applied,
                    wal_age_us,
                    recorded,
                    sync_us,
                    condition: Condition { low, blocked },
                    own,
                })
            }),
        (b(), s()).prop_map(|(ballot, next)| Message::Resync(Resync { ballot, next })),
        (s(), any::<u32>())
            .prop_map(|(from, max_bytes)| Message::FetchChosen(FetchChosen { from, max_bytes })),
        (s(), lists(), s(), s()).prop_map(|(start, entries, chosen, first)| Message::ChosenChunk(
            ChosenChunk {
                start,
                entries,
                chosen,
                first
            }
        )),
        (b(), s()).prop_map(|(ballot, upto)| Message::TransferNow(TransferNow { ballot, upto })),
        (
            s(),
            any::<bool>(),
            n(),
            prop::collection::vec((0u16..4).prop_map(NodeId), 0..3)
        )
            .prop_map(
                |(slot, is_state, hash, agreeing)| Message::Objection(Objection {
                    slot,
                    is_state,
                    hash,
                    agreeing
                })
            ),
        witnesses().prop_map(|witness| Message::Witness(Witness { witness })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_message_comes_back(message in messages()) {
        prop_assert_eq!(Message::decode(message.encode()), Ok(message));
    }

    #[test]
    fn any_bytes_are_survived(tag in 0u8..17, tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from([vec![tag], tail].concat());
        if let Ok(message) = Message::decode(bytes.clone()) {
            prop_assert_eq!(message.encode(), bytes.clone());
        }
        if let Ok(record) = BirthRecord::decode(bytes.clone()) {
            prop_assert_eq!(record.encode(), bytes);
        }
    }

    /// Every cut and every flipped byte of a message: an error or another message, never a panic.
    #[test]
    fn cuts_and_flips_are_survived(message in messages(), flip in 1u8..) {
        let bytes = message.encode();
        for at in 0..bytes.len() {
            prop_assert!(Message::decode(bytes.slice(..at)).is_err());
            let mut flipped = bytes.to_vec();
            flipped[at] ^= flip;
            prop_assert_ne!(Message::decode(flipped.into()), Ok(message.clone()));
        }
    }

    /// Peers that say anything at all: the core may be misled, it never panics.
    #[test]
    fn strangers_do_not_stop_a_core(
        said in prop::collection::vec((1u16..=3, messages(), any::<bool>()), 1..60)
    ) {
        let mut cluster = Cluster::new(Shape::of(3, 1));
        let now = cluster.now;
        let core = cluster.cores.get_mut(&NodeId(1)).expect("started");
        let mut out = paxos::Outbox::default();
        for (who, message, synced) in said {
            out.clear();
            if who == 1 {
                core.step(now.max(core.next_wake()), Input::Tick, &mut out);
            } else {
                let from = NodeId(who);
                let link = cluster.links[&(NodeId(1), from)];
                core.step(now, Input::Recv { from, link, message }, &mut out);
            }
            if let Some(seq) = out.wal.last().map(|append| append.seq).filter(|_| synced) {
                core.step(now, Input::WalDurable { seq }, &mut out);
            }
        }
    }
}

/// The layout that rolling upgrades meet; a change here is a new protocol version.
#[test]
fn golden_bytes() {
    let entry = Entry::new(EntryKind::App, Ballot::new(7, NodeId(2)), 1000, 5, b"hi");
    let accept = Accept {
        ballot: Ballot::new(7, NodeId(2)),
        prev: Slot(9),
        entries: vec![entry],
        commit: Slot(8),
        round: 3,
    };
    let bytes = Message::Accept(accept).encode();
    let lines = bytes.chunks(16).map(|line| {
        let hex: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        hex.join(" ")
    });
    expect![[r#"
        06 02 00 07 00 00 00 00 00 09 00 00 00 00 00 00
        00 01 00 00 00 22 00 00 00 01 00 00 00 00 00 00
        00 02 00 07 00 00 00 00 00 e8 03 00 00 00 00 00
        00 05 00 00 00 00 00 00 00 68 69 08 00 00 00 00
        00 00 00 03 00 00 00 00 00 00 00"#]]
    .assert_eq(&lines.collect::<Vec<_>>().join("\n"));
}

#[test]
fn lengths_are_checked_before_they_are_believed() {
    // An accept with four billion entries in twelve bytes.
    let mut bytes = vec![6; 1];
    bytes.extend([0; 16]);
    bytes.extend([0xff; 4]);
    bytes.extend([0; 8]);
    let error = Message::decode(bytes.into()).expect_err("too many");
    assert_eq!(
        error,
        DecodeError::LengthTooLarge {
            length: 0xffff_ffff,
            left: 8
        }
    );
    assert_eq!(
        error.to_string(),
        "a length of 4294967295 with 8 bytes left"
    );
}

#[test]
fn a_birth_record_comes_back() {
    let record = BirthRecord {
        cluster: 1 << 100,
        name: "lager".into(),
        members: vec![(NodeId(1), DiskId(7)), (NodeId(2), DiskId(8))],
    };
    let bytes = record.encode();
    assert_eq!(BirthRecord::decode(bytes.clone()), Ok(record));
    for at in 0..bytes.len() {
        assert!(BirthRecord::decode(bytes.slice(..at)).is_err());
    }
}
