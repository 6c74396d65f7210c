//! The machine against a naive model of the same promises, on random logs.
//!
//! The model ([`reference`]) keeps plain lists, looks at everything every time, and knows nothing
//! of indexes, weights or snapshots. Each walk makes a log out of a seed; after every slot both
//! must have given the same answers, and in the end hold the same files. On the way the machine is
//! saved and loaded at random, and a second one that never was must end with the same bytes.
//!
//! A failure names its seed: `SEED=17 cargo test -p statemachine --test model` repeats it.

mod chance;
mod first_hash;
mod orders;
mod reference;
mod spread;
mod walk;

use std::collections::BTreeMap;

use statemachine::{
    Applied, At, Effects, Event, Fate, FileOp, LeftQueueWhy, LostWhy, Machine, Outcome, Settings,
};

/// Walks per run, enough for every kind of ending to meet every other in a few seconds.
const SEEDS: u64 = 400;

/// Slots per walk.
const SLOTS: u64 = 300;

#[test]
fn the_machine_does_what_the_model_says() {
    let seeds = match std::env::var_os("SEED") {
        Some(seed) => {
            let seed: u64 = seed
                .to_str()
                .and_then(|s| s.parse().ok())
                .expect("SEED is a number");
            seed..seed + 1
        }
        None => 0..SEEDS,
    };
    let all = seeds.end - seeds.start == SEEDS;
    let mut seen = BTreeMap::new();
    for seed in seeds {
        walk(seed, walk::Walk::new(seed), &mut seen);
        if seed % 4 == 0 {
            walk(seed, walk::Walk::new(seed).with_many_leaders(), &mut seen);
        }
    }
    // A walk that meets too little shows too little. What only a full state refuses has a test of
    // its own.
    let met = |what: &&str| seen.get(*what).copied().unwrap_or(0) >= 20;
    let missed: Vec<&&str> = MUST_MEET.iter().filter(|what| !met(what)).collect();
    assert!(
        !all || missed.is_empty(),
        "hardly ever met: {missed:?} in {seen:#?}"
    );
}

/// What the walks together must meet, by the names in [`name_of`].
const MUST_MEET: [&str; 49] = [
    "done",
    "never",
    "unknown",
    "Alive",
    "Opened",
    "Closed",
    "Granted",
    "Cancelled",
    "Renewed",
    "Appended",
    "Released",
    "Aborted",
    "Created",
    "Removed",
    "ForceReleased",
    "given back",
    "pushed Granted",
    "session_expired",
    "busy",
    "wait_timed_out",
    "already_held",
    "already_waiting",
    "queue_full",
    "too_many_sessions",
    "not_held",
    "out_of_order",
    "no_such_file",
    "wrong_guard",
    "too_large",
    "section_too_large",
    "exists",
    "pending_appends",
    "bad_name",
    "too_many_in_flight",
    "full",
    "forgotten",
    "cancelled",
    "bad_request",
    "LeaseExpired",
    "SessionExpired",
    "SessionClosed",
    "Forced",
    "GivenBack",
    "TimedOut",
    "GivenUp",
    "DedupHit",
    "Write",
    "Discarded",
    "Queued",
];

fn count(effects: &Effects, seen: &mut BTreeMap<&'static str, u64>) {
    let mut met = |what| *seen.entry(what).or_default() += 1;
    for reply in &effects.replies {
        met(name_of(&reply.outcome));
        match &reply.outcome {
            Outcome::Cancelled { given_back: true } => met("given back"),
            Outcome::Granted { .. } if !reply.counts_for_time => met("pushed Granted"),
            _ => {}
        }
    }
    effects.files.iter().for_each(|op| match op {
        FileOp::Write { .. } => met("Write"),
        FileOp::Create { .. } | FileOp::Remove { .. } => {}
    });
    for event in &effects.events {
        match event {
            Event::DedupHit { .. } => met("DedupHit"),
            Event::Queued { .. } => met("Queued"),
            Event::LeftQueue {
                why: LeftQueueWhy::TimedOut,
                ..
            } => met("TimedOut"),
            Event::LeftQueue {
                why: LeftQueueWhy::GivenUp,
                ..
            } => met("GivenUp"),
            Event::Lost {
                why,
                discarded_appends,
                ..
            } => {
                if *discarded_appends > 0 {
                    met("Discarded");
                }
                match why {
                    LostWhy::LeaseExpired => met("LeaseExpired"),
                    LostWhy::SessionExpired => met("SessionExpired"),
                    LostWhy::SessionClosed => met("SessionClosed"),
                    LostWhy::Forced { .. } => met("Forced"),
                    LostWhy::GivenBack => met("GivenBack"),
                    LostWhy::Released | LostWhy::Aborted => {}
                }
            }
            _ => {}
        }
    }
}

fn name_of(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Opened { .. } => "Opened",
        Outcome::Alive { .. } => "Alive",
        Outcome::Closed => "Closed",
        Outcome::Granted { .. } => "Granted",
        Outcome::Cancelled { .. } => "Cancelled",
        Outcome::Renewed { .. } => "Renewed",
        Outcome::Appended { .. } => "Appended",
        Outcome::Released { .. } => "Released",
        Outcome::Aborted => "Aborted",
        Outcome::Created { .. } => "Created",
        Outcome::Removed => "Removed",
        Outcome::ForceReleased => "ForceReleased",
        Outcome::Settled { fate } => match fate {
            Fate::Done { .. } => "done",
            Fate::Never => "never",
            Fate::Unknown => "unknown",
        },
        Outcome::Refused(refusal) => refusal.code(),
    }
}

fn walk(seed: u64, mut walk: walk::Walk, seen: &mut BTreeMap<&'static str, u64>) {
    let mut machine = Machine::new();
    let mut model = reference::Model::default();
    let mut log = Vec::new();
    for _ in 0..SLOTS {
        let entry = walk.entry();
        let effects = machine.apply(entry.at, entry.applied());
        count(&effects, seen);
        let expected = model.apply(&entry);
        let found: Vec<_> = effects
            .replies
            .iter()
            .map(|r| (r.to, r.outcome.clone()))
            .collect();
        let told = format!("seed {seed}, slot {}: {:?}", entry.at.slot, entry.what);
        assert_eq!(found, expected, "{told}");
        model.check(&machine, &told);
        if entry.save {
            let loaded = load(&save(&machine));
            assert_eq!(loaded, machine, "{told}");
            machine = loaded;
        }
        walk.learn(&effects);
        log.push(entry);
    }
    check_replay(seed, &log, &machine);
}

/// Logs that were chosen under the first rules are replayed by those, to the very bytes that the
/// first program wrote: it gave this digest of the walks' last states. Then the rules are raised.
#[test]
fn logs_of_the_first_rules_end_as_they_did() {
    let mut digest = 0_u64;
    for seed in 0..SEEDS {
        let mut walk = walk::Walk::under_first_rules(seed);
        let mut machine = Machine::new();
        for _ in 0..SLOTS {
            let entry = walk.entry();
            let effects = machine.apply(entry.at, entry.applied());
            if entry.save {
                machine = load(&save(&machine));
            }
            walk.learn(&effects);
        }
        let bytes = save(&machine);
        digest =
            (digest.rotate_left(7) ^ first_hash::of(&bytes)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        assert_eq!(bytes[0], 1, "seed {seed}: the layout follows the rules");
        let agreed = machine.settings().expect("agreed").clone();
        let at = At {
            slot: statemachine::Slot(SLOTS + 1),
            time: machine.time(),
            wall_ms: 0,
        };
        machine.apply(at, Applied::Settings(Settings::default()));
        let raised = agreed.under_rules_of(&Settings::default());
        assert_eq!(machine.settings(), Some(&raised), "seed {seed}");
        let bytes = save(&machine);
        assert_eq!(bytes[0], 2, "seed {seed}: the layout follows the rules");
        assert_eq!(load(&bytes), machine, "seed {seed}");
    }
    assert_eq!(digest, FIRST_DIGEST);
}

/// See [`logs_of_the_first_rules_end_as_they_did`].
const FIRST_DIGEST: u64 = 0x7978_df35_b61e_84c9;

/// The log decides: whoever replays it, with snapshots on the way or without, by values or by
/// their bytes, holds the same state to the byte.
fn check_replay(seed: u64, log: &[walk::Entry], machine: &Machine) {
    let mut replica = Machine::new();
    for entry in log {
        match &entry.what {
            walk::What::Command(command) => {
                replica.apply(entry.at, Applied::Encoded(&command.encode()))
            }
            _ => replica.apply(entry.at, entry.applied()),
        };
    }
    assert_eq!(
        save(&replica),
        save(machine),
        "seed {seed}: snapshots differ"
    );
    assert_eq!(
        replica.state_hash(),
        machine.state_hash(),
        "seed {seed}: hashes differ"
    );
    let mut later = replica.clone();
    let slot = statemachine::Slot(log.len() as u64 + 1);
    later.apply(
        At {
            slot,
            time: replica.time(),
            wall_ms: 0,
        },
        Applied::Time,
    );
    assert_ne!(
        later.state_hash(),
        replica.state_hash(),
        "seed {seed}: the hash sees the slot"
    );
}

fn save(machine: &Machine) -> Vec<u8> {
    let mut bytes = Vec::new();
    machine
        .encode_snapshot(&mut bytes)
        .expect("memory takes everything");
    bytes
}

fn load(bytes: &[u8]) -> Machine {
    Machine::decode_snapshot(bytes).expect("a machine's own snapshot")
}
