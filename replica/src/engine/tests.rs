//! A sole replica, whose disk is as fast as a test wants it.

use bytes::Bytes;
use net::{Request, RequestBody, ResponseBody};
use paxos::{ClusterId, DiskId, Identity, Member, Membership, Recovered, WalSeq};
use statemachine::{
    Beat, Command, Done, FileOp, LockMode, NotHeldWhy, Op, Outcome, Query, Refusal, Seq, SessionId,
    Settings, Token,
};

use super::*;

mod together;

struct Sole {
    engine: Engine,
    now: Now,
    out: Output,
    /// Appends handed out so far, and entries in them.
    submitted: WalSeq,
    entries: usize,
    /// Entries of the log, as a restart would find them.
    accepted: Vec<(Slot, paxos::Ballot, paxos::Entry)>,
    requests: u64,
}

fn options() -> EngineOptions {
    let identity = Identity {
        cluster: ClusterId(1),
        node: NodeId(1),
        disk: DiskId(1),
    };
    let member = Member {
        node: NodeId(1),
        disk: DiskId(1),
    };
    let membership = Membership {
        epoch: 1,
        members: vec![member],
    };
    EngineOptions {
        core: paxos::Config::new(identity, membership),
        settings: Settings {
            files: 1,
            ..Settings::default()
        },
        limits: Limits::default(),
        snapshots: SnapshotPolicy::default(),
        segment_bytes: 4 << 20,
        gather_us: 100_000,
        version: "test".to_owned(),
        cluster_name: "test".to_owned(),
    }
}

impl Sole {
    fn new(options: EngineOptions) -> Sole {
        Sole::restored(options, Recovered::default())
    }

    /// As [`Sole::new`], with what its log holds.
    fn restored(options: EngineOptions, recovered: Recovered) -> Sole {
        let now = Now {
            mono: MonoTime(1_000_000),
            wall_ms: 5,
        };
        let restored = Restored {
            recovered,
            machine: Machine::new(),
            snapshot: Slot(0),
            log_bytes: 0,
        };
        let engine = Engine::new(options, restored, now.mono);
        let mut sole = Sole {
            engine,
            now,
            out: Output::default(),
            submitted: WalSeq(0),
            entries: 0,
            accepted: Vec::new(),
            requests: 0,
        };
        for _ in 0..50 {
            sole.after_ms(100);
            sole.sync();
        }
        assert_eq!(sole.engine.role, Role::Leader);
        assert!(sole.engine.machine().settings().is_some());
        sole.answers();
        sole
    }

    fn give(&mut self, input: Input) {
        self.engine.handle(self.now, input, &mut self.out);
    }

    /// Ends the batch; the log gets what it wants written.
    fn finish(&mut self) {
        self.engine.finish(self.now, &mut self.out);
        for append in std::mem::take(&mut self.out.wal) {
            self.submitted = append.seq;
            let accepted = append
                .records
                .into_iter()
                .filter_map(|record| match record {
                    paxos::WalRecord::Accept {
                        slot,
                        ballot,
                        entry,
                    } => Some((slot, ballot, entry)),
                    _ => None,
                });
            self.accepted.extend(accepted);
            self.entries = self.accepted.len();
        }
    }

    /// The disk catches up, and so does the replica.
    fn sync(&mut self) {
        self.finish();
        let seq = self.submitted;
        self.give(Input::Durable { seq });
        self.finish();
        while self.engine.next_wake() <= self.now.mono {
            self.give(Input::Tick);
            self.finish();
        }
    }

    fn after_ms(&mut self, ms: u64) {
        self.now.mono = self.now.mono.after(ms * 1_000);
        self.give(Input::Tick);
    }

    fn ask(&mut self, conn: u64, body: RequestBody) -> u64 {
        self.requests += 1;
        let request = Request {
            id: self.requests,
            body,
        };
        self.give(Input::Client {
            conn: ConnId(conn),
            request,
        });
        self.requests
    }

    fn command(&mut self, conn: u64, command: &Command) -> u64 {
        self.ask(conn, RequestBody::Command(Bytes::from(command.encode())))
    }

    /// What was pushed: to which connection, of which session.
    fn losses(&mut self) -> Vec<(u64, u64, Refusal)> {
        let effects = std::mem::take(&mut self.out.effects).into_iter();
        let losses = effects.filter_map(|effect| match effect {
            Effect::Reply { conn, response } => match response.body {
                ResponseBody::Lost { session, bytes, .. } => {
                    assert_eq!(response.id, net::Response::UNASKED);
                    match Outcome::decode(&bytes).expect("sound") {
                        Outcome::Refused(refusal) => Some((conn.0, session, refusal)),
                        other => panic!("no refusal: {other:?}"),
                    }
                }
                _ => None,
            },
            _ => None,
        });
        losses.collect()
    }

    fn answers(&mut self) -> Vec<(u64, ResponseBody)> {
        let replies = std::mem::take(&mut self.out.effects).into_iter();
        let replies = replies.filter_map(|effect| match effect {
            Effect::Reply { response, .. } => Some((response.id, response.body)),
            _ => None,
        });
        replies.collect()
    }

    /// What became of every request answered with an outcome, and the stamps.
    fn outcomes(&mut self) -> Vec<(u64, Option<u64>, Outcome)> {
        let answers = self.answers().into_iter();
        let outcomes = answers.filter_map(|(id, body)| match body {
            ResponseBody::Outcome {
                stamp_ms, bytes, ..
            } => Some((id, stamp_ms, Outcome::decode(&bytes).expect("an outcome"))),
            _ => None,
        });
        outcomes.collect()
    }

    fn open(&mut self, conn: u64) -> SessionId {
        let nonce = u128::from(self.requests) + 1;
        self.command(
            conn,
            &Command::Open {
                nonce,
                ttl_ms: 0,
                name: "c".to_owned(),
            },
        );
        self.sync();
        match self.outcomes().as_slice() {
            [(_, Some(_), Outcome::Opened { session, .. })] => *session,
            other => panic!("not opened: {other:?}"),
        }
    }
}

fn acquire(session: SessionId, seq: u64) -> Command {
    let (lock, mode) = ("l".to_owned(), LockMode::Exclusive);
    let op = Op::Acquire {
        lock,
        lease_ms: None,
        wait_ms: None,
        mode,
    };
    Command::Session {
        session,
        seq: Seq(seq),
        done: Done::default(),
        op,
    }
}

fn release(session: SessionId, seq: u64, token: Token) -> Command {
    let op = Op::Release {
        lock: "l".to_owned(),
        token,
        count: 0,
    };
    Command::Session {
        session,
        seq: Seq(seq),
        done: Done::default(),
        op,
    }
}

fn keep_alive(session: SessionId) -> Command {
    Command::KeepAlive {
        beats: vec![Beat {
            session,
            tokens: Vec::new(),
        }],
    }
}

/// Kills t9: the remembered answer comes with the stamp of the entry that carried this attempt.
#[test]
fn each_attempt_is_answered_with_its_own_stamp() {
    let mut sole = Sole::new(options());
    let session = sole.open(1);
    let first = sole.command(1, &acquire(session, 1));
    sole.finish();
    sole.after_ms(7);
    // It names another number as done, so it is no repetition of the first's bytes.
    let mut again = acquire(session, 1);
    if let Command::Session { done, .. } = &mut again {
        done.also = vec![(9, 9)];
    }
    let second = sole.command(2, &again);
    sole.sync();
    let outcomes = sole.outcomes();
    assert_eq!(
        outcomes.iter().map(|o| o.0).collect::<Vec<_>>(),
        [first, second]
    );
    assert_eq!(outcomes[0].2, outcomes[1].2);
    assert_eq!(
        outcomes[0].1.expect("a stamp") + 7,
        outcomes[1].1.expect("a stamp")
    );
}

/// A place in the queue is found again at no cost; the grant goes to every attempt, each with its stamp.
#[test]
fn asking_again_for_a_place_in_the_queue_costs_no_entry() {
    let mut sole = Sole::new(options());
    let (holder, waiter) = (sole.open(1), sole.open(2));
    sole.command(1, &acquire(holder, 1));
    sole.sync();
    let [(_, _, Outcome::Granted { token, .. })] = sole.outcomes()[..] else {
        panic!("granted")
    };
    let first = sole.command(2, &acquire(waiter, 1));
    sole.sync();
    assert_eq!(
        sole.answers(),
        [(first, ResponseBody::Waiting { position: 1 })]
    );

    let entries = sole.entries;
    let second = sole.command(3, &acquire(waiter, 1));
    let lost = sole.command(4, &acquire(waiter, 1));
    sole.sync();
    assert_eq!(sole.entries, entries);
    assert_eq!(sole.answers().len(), 2, "both are told that they wait");
    sole.give(Input::ClientGone { conn: ConnId(4) });

    sole.command(1, &release(holder, 2, token));
    sole.sync();
    let grants: Vec<(u64, bool)> = sole
        .outcomes()
        .into_iter()
        .filter(|(_, _, outcome)| matches!(outcome, Outcome::Granted { .. }))
        .map(|(id, stamp, _)| (id, stamp.is_some()))
        .collect();
    assert_eq!(
        grants,
        [(first, true), (second, false)],
        "and not {lost}, whose client is gone"
    );
    assert_eq!(sole.engine.requests.open(ConnId(2)), (0, 0));
}

/// A client that waits for hours asks again all the time, and one that gives up says so in passing:
/// neither may leave anything behind in the table.
#[test]
fn asking_again_for_long_and_giving_up_leave_nothing_open() {
    let mut sole = Sole::new(options());
    let (holder, waiter) = (sole.open(1), sole.open(2));
    sole.command(1, &acquire(holder, 1));
    sole.command(2, &acquire(waiter, 1));
    sole.sync();
    let asked: Vec<u64> = (0..100)
        .map(|_| sole.command(2, &acquire(waiter, 1)))
        .collect();
    sole.sync();
    assert_eq!(sole.engine.requests.waiters(), 2);
    assert_eq!(
        sole.engine.requests.open(ConnId(2)),
        (0, 0),
        "waiting is no load"
    );
    sole.answers();

    let done = Done {
        below: 1,
        also: vec![],
    };
    let op = Op::Renew {
        lock: "l".to_owned(),
        token: Token(9),
    };
    let renew = Command::Session {
        session: waiter,
        seq: Seq(2),
        done,
        op,
    };
    sole.command(2, &renew);
    sole.sync();
    let forgotten = sole
        .outcomes()
        .into_iter()
        .filter(|(_, _, outcome)| matches!(outcome, Outcome::Refused(Refusal::Forgotten)));
    let forgotten: Vec<u64> = forgotten.map(|(id, _, _)| id).collect();
    assert_eq!(forgotten, asked[98..], "only the newest are kept");
    assert_eq!(sole.engine.requests.open(ConnId(2)), (0, 0));
}

/// What would not fit into a record of the log stops at the door, and stops nobody else.
#[test]
fn a_command_too_large_for_the_log_is_refused() {
    let mut sole = Sole::new(options());
    let session = sole.open(1);
    let op = Op::Append {
        lock: "l".to_owned(),
        token: Token(1),
        place: 1,
        file: "file_0".to_owned(),
        data: Bytes::from(vec![0; 4 << 20]),
    };
    let command = Command::Session {
        session,
        seq: Seq(1),
        done: Done::default(),
        op,
    };
    sole.command(1, &command);
    let [(_, ResponseBody::Bad { .. })] = sole.answers()[..] else {
        panic!("refused")
    };
    sole.command(1, &acquire(session, 2));
    sole.sync();
    let [(_, _, Outcome::Granted { .. })] = sole.outcomes()[..] else {
        panic!("granted")
    };
}

/// Whoever waits is told when leadership is lost, and nothing stays open.
#[test]
fn losing_leadership_answers_everybody() {
    let mut sole = Sole::new(options());
    let (holder, waiter) = (sole.open(1), sole.open(2));
    sole.command(1, &acquire(holder, 1));
    let waits = sole.command(2, &acquire(waiter, 1));
    sole.sync();
    sole.answers();
    let placed = sole.command(3, &keep_alive(holder));
    sole.finish();
    let batched = sole.command(3, &acquire(holder, 2));
    sole.give(Input::Admin(Admin::StepDown));
    let mut answers = sole.answers();
    answers.sort_by_key(|(id, _)| *id);
    let kinds: Vec<(u64, bool)> = answers
        .iter()
        .map(|(id, body)| (*id, matches!(body, ResponseBody::Unknown { .. })))
        .collect();
    assert_eq!(kinds, [(waits, true), (placed, true), (batched, false)]);
    assert_eq!(sole.engine.requests.open(ConnId(3)), (0, 0));
}

/// One alone goes at once; many are gathered, and each gets its own share of the answer.
#[test]
fn keep_alives_are_gathered() {
    let mut sole = Sole::new(options());
    let (a, b, c) = (sole.open(1), sole.open(2), sole.open(1));
    for _ in 0..3 {
        sole.after_ms(1);
        sole.command(1, &keep_alive(a));
        sole.sync();
        assert_eq!(sole.outcomes().len(), 1, "alone");
    }
    let before = sole.entries;
    sole.command(1, &keep_alive(a));
    sole.finish();
    let ids = [
        sole.command(1, &keep_alive(c)),
        sole.command(2, &keep_alive(b)),
    ];
    sole.sync();
    assert_eq!(
        sole.outcomes().len(),
        1,
        "the first alone, the others wait for it"
    );
    sole.sync();
    let shares: Vec<(u64, SessionId)> = sole
        .outcomes()
        .into_iter()
        .map(|(id, stamp, outcome)| match outcome {
            Outcome::Alive { beats } if stamp.is_some() && beats.len() == 1 => {
                (id, beats[0].session)
            }
            other => panic!("not one share: {other:?}"),
        })
        .collect();
    assert_eq!(shares, [(ids[0], c), (ids[1], b)]);
    assert_eq!(sole.entries, before + 2);

    sole.command(1, &keep_alive(a));
    sole.sync();
    assert_eq!(
        sole.outcomes(),
        [],
        "the last entry carried several and was a moment ago"
    );
    sole.after_ms(100);
    sole.sync();
    assert_eq!(sole.outcomes().len(), 1);
}

#[test]
fn too_many_requests_are_refused_at_the_door() {
    let mut options = options();
    options.limits = Limits {
        per_connection: 2,
        in_all: 3,
        ..Limits::default()
    };
    let mut sole = Sole::new(options);
    let session = sole.open(1);
    for conn in [1, 1, 1, 2, 2] {
        sole.command(conn, &acquire(session, 1));
    }
    let refused: Vec<u64> = sole
        .answers()
        .into_iter()
        .filter(|(_, body)| matches!(body, ResponseBody::Unavailable { .. }))
        .map(|(id, _)| id)
        .collect();
    assert_eq!(
        refused,
        [4, 6],
        "the third on one connection, the fourth in all"
    );
    sole.sync();
    assert_eq!(sole.outcomes().len(), 3);
    assert_eq!(sole.engine.requests.open(ConnId(1)), (0, 0));
}

/// With the disk nearly full, what ends or keeps up something goes on.
#[test]
fn a_low_disk_takes_no_new_work() {
    let mut sole = Sole::new(options());
    let session = sole.open(1);
    sole.command(1, &acquire(session, 1));
    sole.sync();
    let [(_, _, Outcome::Granted { token, .. })] = sole.outcomes()[..] else {
        panic!("granted")
    };
    sole.give(Input::DiskLow(true));
    sole.command(1, &acquire(session, 2));
    let [(_, ResponseBody::Unavailable { .. })] = sole.answers()[..] else {
        panic!("refused")
    };
    sole.command(1, &release(session, 3, token));
    sole.sync();
    let [(_, _, Outcome::Released { .. })] = &sole.outcomes()[..] else {
        panic!("released")
    };
}

fn remove(session: SessionId, seq: u64) -> Command {
    Command::Session {
        session,
        seq: Seq(seq),
        done: Done::default(),
        op: Op::RemoveFile {
            file: "file_0".to_owned(),
        },
    }
}

/// A full disk takes sessions, so that its files can be removed; a flood of them is bounded.
#[test]
fn a_full_disk_takes_sessions_that_remove_files() {
    let fillings = [Input::DiskLow(true), Input::DiskFree(Some(0))];
    for filling in fillings {
        let mut sole = Sole::new(options());
        sole.give(filling);
        assert!(sole.engine.refuses_work().is_some());
        let session = sole.open(1);
        sole.command(1, &acquire(session, 1));
        let [(_, ResponseBody::Unavailable { .. })] = sole.answers()[..] else {
            panic!("a lock is new work")
        };
        sole.command(1, &remove(session, 2));
        sole.sync();
        let [(_, _, Outcome::Removed)] = sole.outcomes()[..] else {
            panic!("removed")
        };
        let mut opened_of_1000 = || {
            let opened = (0..1_000).filter(|_| {
                let nonce = u128::from(sole.requests) + 1;
                let (ttl_ms, name) = (0, String::new());
                sole.command(
                    2,
                    &Command::Open {
                        nonce,
                        ttl_ms,
                        name,
                    },
                );
                sole.answers().is_empty()
            });
            let opened = opened.count();
            sole.after_ms(1_000);
            sole.sync();
            assert_eq!(sole.outcomes().len(), opened);
            opened
        };
        assert_eq!([opened_of_1000(), opened_of_1000()], [63, 16]);
    }
}

/// While space is low snapshots are taken until they give nothing back any more: also if one fails, and also if nobody
/// asks for anything.
#[test]
fn low_space_takes_snapshots_as_long_as_they_free_some() {
    let mut sole = Sole::new(options());
    let look = |sole: &mut Sole, ms, bytes| {
        sole.after_ms(ms);
        sole.give(Input::DiskFree(Some(0)));
        sole.sync();
        sole.give(Input::Reclaimable(bytes));
        sole.sync();
        sole.out.snapshot.take().map(|job| job.slot)
    };
    sole.give(Input::Reclaimable(1));
    assert!(sole.out.snapshot.is_none(), "there is room enough");
    let first = look(&mut sole, 0, 1).expect("a snapshot");
    assert_eq!(look(&mut sole, 500, 1), None, "it is being made");
    sole.give(Input::SnapshotFailed);
    assert_eq!(look(&mut sole, 100, 1), None, "that failed just now");
    let first = look(&mut sole, 1_000, 1)
        .filter(|slot| *slot >= first)
        .expect("another try");
    let saved = |sole: &mut Sole, slot| {
        let meta = Bytes::new();
        sole.give(Input::SnapshotSaved { slot, meta });
        sole.sync();
    };
    sole.after_ms(100);
    saved(&mut sole, first);
    assert_eq!(look(&mut sole, 100, 1), None, "it rests");
    let second = (0..20)
        .find_map(|_| look(&mut sole, 250, 1))
        .expect("a second");
    assert!(second > first, "{second:?} after {first:?}");
    saved(&mut sole, second);
    let entries = sole.entries;
    for _ in 0..100 {
        assert_eq!(look(&mut sole, 250, 0), None, "there is nothing to free");
    }
    assert!(sole.entries <= entries + 6, "{} entries", sole.entries);
    // What is removed later is given back, too.
    let session = sole.open(1);
    sole.command(1, &remove(session, 1));
    sole.sync();
    assert!(look(&mut sole, 250, 1).is_some());
}

/// A lease ends by itself, when the log is idle: the leader moves time on, and not before.
#[test]
fn the_leader_moves_time_to_the_next_deadline() {
    let mut sole = Sole::new(options());
    let session = sole.open(1);
    let due = sole.engine.next_wake();
    let entries = sole.entries;
    sole.after_ms(19_000);
    sole.sync();
    assert_eq!(sole.entries, entries, "the session has another second");
    assert!(sole.engine.next_wake() <= due.after(20_000_000));
    sole.after_ms(1_002);
    sole.sync();
    assert_eq!(sole.entries, entries + 1);
    sole.command(1, &acquire(session, 1));
    sole.sync();
    let [(_, _, Outcome::Refused(Refusal::SessionExpired))] = sole.outcomes()[..] else {
        panic!("the session lives on")
    };
}

/// Nothing is applied, hence nothing answered, while the data files wait for room.
#[test]
fn a_full_disk_stops_applying() {
    let mut sole = Sole::new(options());
    let session = sole.open(1);
    sole.command(1, &acquire(session, 1));
    sole.finish();
    sole.give(Input::FilesBlocked(true));
    sole.sync();
    let read = Query::LockStatus {
        lock: "l".to_owned(),
    };
    let bytes = Bytes::from(read.encode());
    sole.ask(
        1,
        RequestBody::Query {
            stale: false,
            bytes,
        },
    );
    sole.sync();
    assert_eq!(sole.answers(), []);
    sole.give(Input::FilesBlocked(false));
    assert_eq!(sole.answers().len(), 2);
}

/// However much was chosen at once, a turn applies only so much of it, and asks for the next turn itself.
#[test]
fn applying_takes_turns() {
    let mut sole = Sole::new(options());
    let session = sole.open(1);
    sole.command(1, &on_default(acquire(session, 1)));
    sole.sync();
    let [(_, _, Outcome::Granted { token, .. })] = sole.outcomes()[..] else {
        panic!("granted")
    };
    let bytes = APPLY_BYTES_PER_TICK / 4;
    for seq in 2..30 {
        sole.command(1, &append(session, seq, token, bytes));
        sole.finish();
    }
    let last = sole.command(1, &on_default(release(session, 30, token)));
    sole.finish();
    let seq = sole.submitted;
    sole.give(Input::Durable { seq });
    let mut answered = 0;
    let mut ticks = 0;
    loop {
        let answers = sole.answers();
        assert!(answers.len() <= 4, "{} in one turn", answers.len());
        answered += answers.len();
        if answers.iter().any(|(request, _)| *request == last) {
            break;
        }
        assert!(sole.engine.next_wake() <= sole.now.mono);
        ticks += 1;
        assert!(ticks < 30, "each turn goes on");
        sole.after_ms(0);
    }
    assert_eq!(answered, 29);
    sole.finish();
    assert!(sole.engine.next_wake() > sole.now.mono);
}

/// What is refused while files wait for space is told why.
#[test]
fn files_that_wait_for_space_are_the_reason() {
    let mut sole = Sole::new(options());
    let session = sole.open(1);
    sole.give(Input::FilesBlocked(true));
    let other = Command::Open {
        nonce: 99,
        ttl_ms: 0,
        name: String::new(),
    };
    for command in [acquire(session, 1), other] {
        sole.command(1, &command);
        let [(_, ResponseBody::Unavailable { reason, .. })] = &sole.answers()[..] else {
            panic!("refused")
        };
        assert!(reason.contains("data files"), "{reason}");
    }
}

/// Whoever waits for what a full disk keeps from being applied is sent on when another takes the lead.
#[test]
fn a_lost_leadership_answers_what_a_full_disk_holds_back() {
    let mut sole = Sole::new(options());
    let session = sole.open(1);
    let chosen = sole.command(1, &acquire(session, 1));
    sole.finish();
    sole.give(Input::FilesBlocked(true));
    sole.sync();
    let query = Query::LockStatus {
        lock: "l".to_owned(),
    };
    let (stale, bytes) = (false, Bytes::from(query.encode()));
    let read = sole.ask(1, RequestBody::Query { stale, bytes });
    sole.sync();
    assert_eq!(sole.answers(), []);
    sole.give(Input::Admin(Admin::StepDown));
    let answers = sole.answers();
    assert!(
        matches!(
            answers[..],
            [
                (first, ResponseBody::Unknown { .. }),
                (second, ResponseBody::NotLeader { .. })
            ] if (first, second) == (chosen, read)
        ),
        "{answers:?}"
    );
    assert_eq!(sole.engine.requests.open(ConnId(1)), (0, 0));
    assert_eq!(sole.engine.requests.in_flight(), 0);
}

/// The same on the lock that guards `file_0`.
fn on_default(mut command: Command) -> Command {
    if let Command::Session { op, .. } = &mut command
        && let Op::Acquire { lock, .. } | Op::Append { lock, .. } | Op::Release { lock, .. } = op
    {
        *lock = "default".to_owned();
    }
    command
}

/// Appends are taken while the disk has room for all of them and for the reserve. The release then finds the room.
#[test]
fn appends_leave_the_reserve_and_room_for_each_other() {
    const FREE: u64 = 40 << 20;
    let mut sole = Sole::new(options());
    let (session, other) = (sole.open(1), sole.open(2));
    sole.command(1, &on_default(acquire(session, 100)));
    sole.sync();
    let [(_, _, Outcome::Granted { token, .. })] = sole.outcomes()[..] else {
        panic!("granted")
    };
    sole.give(Input::DiskFree(Some(FREE)));
    let mut taken = 0;
    let refusal = loop {
        assert!(taken < FREE >> 20, "never refused");
        let data = append(session, 1 + taken, token, 1 << 20);
        sole.command(1, &on_default(data));
        sole.sync();
        match sole.answers().pop() {
            Some((_, ResponseBody::Outcome { bytes, .. })) => {
                let outcome = Outcome::decode(&bytes).expect("an outcome");
                assert!(matches!(outcome, Outcome::Appended { .. }), "{outcome:?}");
                taken += 1;
            }
            Some((_, ResponseBody::Unavailable { reason, retry_ms })) if retry_ms > 0 => {
                break reason;
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(taken >= 3 && refusal.contains("disk"), "{taken}, {refusal}");
    let (state, _) = sole.engine.machine().weight();
    let promised = sole.engine.machine().pending_bytes() + 2 * (4 << 20) + 2 * state;
    assert!(promised <= FREE, "{promised} bytes of {FREE} are promised");

    // The log has taken its part meanwhile.
    sole.give(Input::DiskFree(Some(FREE - (taken << 20))));
    assert!(sole.engine.refuses_work().is_some() && sole.engine.not_ready().is_some());
    sole.command(2, &acquire(other, 1));
    let [(_, ResponseBody::Unavailable { .. })] = sole.answers()[..] else {
        panic!("refused")
    };
    sole.command(1, &keep_alive(session));
    let mut released = on_default(release(session, 200, token));
    if let Command::Session {
        op: Op::Release { count, .. },
        ..
    } = &mut released
    {
        *count = taken as u32;
    }
    sole.command(1, &released);
    sole.sync();
    let effects = sole.out.effects.iter();
    let written: usize = effects
        .filter_map(|effect| match effect {
            Effect::File(FileOp::Write { data, .. }) => Some(data.len()),
            _ => None,
        })
        .sum();
    assert_eq!(written as u64, taken << 20);
    assert_eq!(
        sole.outcomes().len(),
        2,
        "the release and the keep-alive are done"
    );
    sole.give(Input::DiskFree(Some(1 << 30)));
    assert_eq!(sole.engine.refuses_work(), None);
    sole.command(2, &acquire(other, 1));
    sole.sync();
    assert_eq!(sole.outcomes().len(), 1);
}

/// At the first multiple after the log has grown; the bytes read back, and a part of them does not.
#[test]
fn a_snapshot_comes_at_a_multiple_and_reads_back() {
    let mut options = options();
    options.snapshots = SnapshotPolicy {
        log_bytes: 1,
        slot_multiple: 8,
    };
    let mut sole = Sole::new(options);
    let session = sole.open(1);
    while sole.engine.applied() < Slot(8) {
        sole.command(1, &keep_alive(session));
        sole.sync();
        sole.after_ms(200);
    }
    let job = sole.out.snapshot.take().expect("a snapshot is due");
    assert_eq!(job.slot, Slot(8));
    let mut bytes = Vec::new();
    job.encode(&mut bytes).expect("written to memory");
    let read = SnapshotJob::decode(job.slot, &bytes).expect("read back");
    assert_eq!(read.machine.state_hash(), job.machine.state_hash());
    assert_eq!(read.clock, job.clock);
    for len in [0, 23, bytes.len() / 2] {
        assert!(
            SnapshotJob::decode(job.slot, &bytes[..len]).is_err(),
            "{len} bytes"
        );
    }
}

/// The agreed settings count; a replica with other flags says so, also right after a start.
#[test]
fn other_settings_are_told_at_the_start() {
    let sole = Sole::new(options());
    let restored = Restored {
        recovered: Recovered::default(),
        machine: sole.engine.machine().clone(),
        snapshot: Slot(0),
        log_bytes: 0,
    };
    let mut options = options();
    options.settings.files = 7;
    let mut engine = Engine::new(options, restored, sole.now.mono);
    let mut out = Output::default();
    engine.handle(sole.now, Input::Tick, &mut out);
    assert!(
        out.notes
            .iter()
            .any(|note| matches!(note, Note::SettingsDiffer { .. }))
    );
}

/// What differs is told once for each difference, and what an earlier life agreed on is no news.
#[test]
fn settings_are_told_once() {
    let differs = |note: &&Note| matches!(note, Note::SettingsDiffer { .. });
    let proposed = |note: &&Note| matches!(note, Note::SettingsProposed);
    let mut sole = Sole::new(options());
    sole.open(1);
    let first = std::mem::take(&mut sole.out.notes);
    assert_eq!(first.iter().filter(proposed).count(), 1, "{first:?}");

    // The same entry again, as a leader proposes it that has not applied its log yet.
    sole.engine.options.settings.files = 7;
    for _ in 0..3 {
        sole.engine.compare_settings();
    }
    let notes = std::mem::take(&mut sole.engine.notes);
    assert_eq!(notes.iter().filter(differs).count(), 1, "{notes:?}");
    sole.engine.options.settings.files = 8;
    sole.engine.compare_settings();
    assert_eq!(sole.engine.notes.iter().filter(differs).count(), 1);
    let agreed = options().settings.encode();
    sole.engine
        .enqueue(Carried::Own, EntryKind::Settings, agreed.into());
    sole.sync();
    assert_eq!(sole.out.notes.iter().filter(proposed).count(), 0);

    // A later life finds its own proposal in the log and applies it.
    let ballot = sole.engine.core().status().ballot;
    let recovered = Recovered {
        promised: ballot,
        max_ballot_seen: ballot,
        accepted: std::mem::take(&mut sole.accepted),
        ..Recovered::default()
    };
    let mut later = Sole::restored(options(), recovered);
    let notes = std::mem::take(&mut later.out.notes);
    assert_eq!(notes.iter().filter(proposed).count(), 0, "{notes:?}");
}

/// A log that was begun under older rules goes on under the newer ones from a chosen entry on.
#[test]
fn the_first_leader_of_a_newer_program_raises_the_rules() {
    let older = |settings: Settings| settings.under_rules_of(&Settings::of_first_rules());
    let mut first = options();
    first.settings = older(first.settings);
    let mut sole = Sole::new(first);
    sole.open(1);
    let agreed = sole.engine.machine().settings().cloned();
    assert_eq!(agreed, Some(older(options().settings)));

    sole.engine.options.settings = options().settings;
    sole.engine.start_leading();
    sole.give(Input::Tick);
    sole.sync();
    let agreed = sole.engine.machine().settings().cloned();
    assert_eq!(agreed, Some(options().settings));
}

/// Whoever asks how a grant ended needs no session, and is answered by the entry that carried the
/// question.
#[test]
fn a_grant_is_settled() {
    let mut sole = Sole::new(options());
    let token = Token(7);
    let lock = "default".to_owned();
    sole.command(1, &Command::Settle { lock, token });
    sole.sync();
    let answers = sole.answers();
    let [(_, ResponseBody::Outcome { bytes, .. })] = &answers[..] else {
        panic!("{answers:?}");
    };
    let fate = statemachine::Fate::Unknown;
    assert_eq!(Outcome::decode(bytes), Ok(Outcome::Settled { fate }));
}

/// One slot clears away a part of what has ended. Entries that move time follow until all of it is.
#[test]
fn time_moves_on_until_all_that_has_ended_is_cleared_away() {
    let mut options = options();
    options.settings.endings_max = 2;
    let mut sole = Sole::new(options);
    for conn in 1..=9 {
        sole.open(conn);
    }
    let before = sole.engine.applied();
    let mut rounds = 0;
    while sole.engine.machine().next_deadline().is_some() {
        rounds += 1;
        assert!(rounds < 1_000, "it never ends");
        assert!(sole.engine.applied().0 < before.0 + 50, "it never ends");
        sole.after_ms(100);
        sole.sync();
    }
    assert!(sole.engine.applied().0 >= before.0 + 5);
}

/// What a holder loses is pushed to the connection that it was answered by last, and to nobody else; not
/// to the one that asked for it.
#[test]
fn a_forced_release_and_the_end_of_a_session_are_pushed_to_the_holder() {
    let mut sole = Sole::new(options());
    let (holder, other) = (sole.open(1), sole.open(2));
    sole.command(1, &acquire(holder, 1));
    sole.sync();
    let token = sole
        .outcomes()
        .into_iter()
        .find_map(|(_, _, outcome)| match outcome {
            Outcome::Granted { token, .. } => Some(token),
            _ => None,
        })
        .expect("granted");
    let numbered = |session, seq, op| Command::Session {
        session,
        seq: Seq(seq),
        done: Done::default(),
        op,
    };
    let force = Op::ForceRelease {
        lock: "l".into(),
        token,
        reason: "maintenance".into(),
    };
    sole.command(2, &numbered(other, 1, force));
    sole.sync();
    let why = NotHeldWhy::Forced {
        reason: "maintenance".into(),
    };
    let lock = "l".to_owned();
    let expected = Refusal::NotHeld { lock, token, why };
    assert_eq!(sole.losses(), [(1, holder.0, expected)]);
    // Closed from another connection.
    sole.command(2, &numbered(holder, 9, Op::Close));
    sole.sync();
    assert_eq!(sole.losses(), [(1, holder.0, Refusal::SessionExpired)]);
    // And by its own: it is answered, and that is all.
    sole.command(2, &numbered(other, 2, Op::Close));
    sole.sync();
    assert_eq!(sole.losses(), []);
}

/// Retries under overload must not add to it. The first attempt alone may count from its sending.
#[test]
fn a_retry_of_what_is_in_flight_joins_it() {
    let mut sole = Sole::new(options());
    let session = sole.open(1);
    let before = sole.entries;
    let first = sole.command(1, &acquire(session, 1));
    let same_batch = sole.command(1, &acquire(session, 1));
    sole.finish();
    sole.after_ms(7);
    let newer = sole.command(1, &acquire(session, 1));
    let elsewhere = sole.command(2, &acquire(session, 1));
    sole.sync();
    sole.sync();
    assert_eq!(sole.entries, before + 1);
    let answers: Vec<(u64, bool)> = sole
        .outcomes()
        .into_iter()
        .map(|(id, stamp, outcome)| {
            assert!(matches!(outcome, Outcome::Granted { .. }), "{outcome:?}");
            (id, stamp.is_some())
        })
        .collect();
    assert_eq!(
        answers,
        [(first, true), (newer, false), (elsewhere, false)],
        "{same_batch} is replaced by its connection's newer one"
    );
    for conn in [1, 2] {
        assert_eq!(sole.engine.requests.open(ConnId(conn)), (0, 0));
    }
}

/// Nobody is left without an answer, however many connections ask for the same.
#[test]
fn attempts_beyond_those_that_are_answered_together_are_told_to_ask_again() {
    let mut sole = Sole::new(options());
    let (holder, waiter) = (sole.open(1), sole.open(2));
    sole.command(1, &acquire(holder, 1));
    for conn in 2..=21 {
        sole.command(conn, &acquire(waiter, 1));
    }
    let again = |answers: Vec<(u64, ResponseBody)>| {
        let unknown =
            |(_, body): &(u64, ResponseBody)| matches!(body, ResponseBody::Unknown { .. });
        answers.iter().filter(|it| unknown(it)).count()
    };
    assert_eq!(
        again(sole.answers()),
        11,
        "one made the entry, and eight joined it"
    );
    sole.sync();
    assert_eq!(again(sole.answers()), 1, "eight wait");
    for conn in 22..=31 {
        sole.command(conn, &acquire(waiter, 1));
    }
    assert_eq!(again(sole.answers()), 10);
}

/// If the connection of the attempt that made the entry is gone, nobody gets its stamp.
#[test]
fn a_retry_by_another_connection_gets_no_stamp() {
    let mut sole = Sole::new(options());
    let session = sole.open(1);
    sole.command(1, &acquire(session, 1));
    sole.finish();
    sole.give(Input::ClientGone { conn: ConnId(1) });
    let again = sole.command(2, &acquire(session, 1));
    sole.sync();
    let [(id, None, Outcome::Granted { .. })] = sole.outcomes()[..] else {
        panic!("one answer without a stamp")
    };
    assert_eq!(id, again);
    // Once it is applied, a repetition has an entry and a stamp of its own.
    sole.command(2, &acquire(session, 1));
    sole.sync();
    let [(_, Some(_), Outcome::Granted { .. })] = sole.outcomes()[..] else {
        panic!("the first answer, stamped")
    };
}

fn append(session: SessionId, seq: u64, token: Token, bytes: usize) -> Command {
    let op = Op::Append {
        lock: "l".to_owned(),
        token,
        place: seq as u32,
        file: "file_0".to_owned(),
        data: Bytes::from(vec![b'x'; bytes]),
    };
    Command::Session {
        session,
        seq: Seq(seq),
        done: Done::default(),
        op,
    }
}

/// A leader whose disk does not keep up refuses new work, and nothing else.
#[test]
fn what_keeps_or_ends_something_passes_an_append_without_room() {
    let mut options = options();
    options.core.unchosen_bytes_max = 1 << 20;
    let mut sole = Sole::new(options);
    let (writer, holder) = (sole.open(1), sole.open(2));
    sole.command(2, &acquire(holder, 1));
    sole.sync();
    let [(_, _, Outcome::Granted { token, .. })] = sole.outcomes()[..] else {
        panic!("granted")
    };
    // Of these some are taken and some refused; the others come behind all of them in one batch.
    let appends: Vec<u64> = (1..=20)
        .map(|seq| sole.command(1, &append(writer, seq, Token(9), 100 << 10)))
        .collect();
    let beat = sole.command(2, &keep_alive(holder));
    let released = sole.command(2, &release(holder, 2, token));
    sole.finish();
    let refused: Vec<u64> = sole
        .answers()
        .into_iter()
        .map(|(id, body)| match body {
            ResponseBody::Unavailable { retry_ms, .. } if retry_ms > 0 => id,
            other => panic!("{id}: {other:?}"),
        })
        .collect();
    assert_eq!(refused, appends[20 - refused.len()..]);
    assert!((10..20).contains(&refused.len()), "{refused:?}");
    sole.sync();
    let done: Vec<u64> = sole.outcomes().into_iter().map(|(id, _, _)| id).collect();
    assert_eq!(done[..2], [beat, released], "and before the appends");
}

/// Room for a large command is promised in the order of asking and used once.
#[test]
fn large_commands_wait_for_room_before_they_are_sent() {
    let mut options = options();
    options.core.unchosen_bytes_max = 4 << 20;
    let mut sole = Sole::new(options);
    let [session, second, third] = [1, 2, 3].map(|conn| sole.open(conn));
    let bytes = 1 << 20;
    for seq in 1..=3 {
        sole.command(1, &append(session, seq, Token(9), bytes));
    }
    sole.finish();
    assert_eq!(sole.answers(), []);
    let bytes = (bytes + 200) as u64;
    let asked = [2, 3].map(|conn| sole.ask(conn, RequestBody::Room { bytes }));
    sole.finish();
    assert_eq!(sole.answers(), [], "both wait");
    sole.sync();
    let answers = sole.answers();
    let given: Vec<u64> = answers
        .iter()
        .filter(|(_, body)| *body == ResponseBody::Done)
        .map(|(id, _)| *id)
        .collect();
    assert_eq!(given, asked);
    // Nobody takes it from under them.
    for seq in 4..=7 {
        sole.command(1, &append(session, seq, Token(9), 1 << 20));
    }
    let promised = [(2, second), (3, third)]
        .map(|(conn, session)| sole.command(conn, &append(session, 1, Token(9), 1 << 20)));
    sole.finish();
    let refused: Vec<u64> = sole.answers().into_iter().map(|(id, _)| id).collect();
    assert_eq!(refused.len(), 3, "one of four had room beside them");
    assert!(promised.iter().all(|id| !refused.contains(id)));

    let asked = sole.ask(2, RequestBody::Room { bytes });
    sole.after_ms(600);
    sole.finish();
    let [(id, ResponseBody::Unavailable { retry_ms, .. })] = &sole.answers()[..] else {
        panic!("told to come back")
    };
    assert!(*id == asked && *retry_ms > 0);
}

/// 100,000 sessions with leases of 5 s send 60,000 of these a second: the interval bounds how long they
/// wait, not how many of them there may be.
#[test]
fn all_keep_alives_of_an_interval_go_together() {
    let mut sole = Sole::new(options());
    let session = sole.open(1);
    sole.command(1, &keep_alive(session));
    sole.command(2, &keep_alive(session));
    sole.sync();
    sole.outcomes();
    let asked = 3 * gather::BEATS_MAX + 1;
    let before = sole.entries;
    for conn in 0..asked {
        sole.command(conn as u64, &keep_alive(session));
    }
    sole.after_ms(100);
    sole.sync();
    assert_eq!(sole.entries, before + 4);
    assert_eq!(sole.outcomes().len(), asked);
}

/// Under overload a client asks again before it is answered: that must not make a further entry.
#[test]
fn keep_alives_that_are_repeated_join_the_first() {
    let mut sole = Sole::new(options());
    let session = sole.open(1);
    let other = sole.command(2, &keep_alive(session));
    sole.sync();
    sole.outcomes();
    let before = sole.entries;
    let first = sole.command(1, &keep_alive(session));
    let gathered = sole.command(1, &keep_alive(session));
    let elsewhere = sole.command(2, &keep_alive(session));
    sole.after_ms(100);
    sole.finish();
    let newest = sole.command(1, &keep_alive(session));
    sole.sync();
    let stamped = sole.outcomes().into_iter();
    let stamped: Vec<_> = stamped
        .map(|(id, stamp, _)| (id, stamp.is_some()))
        .collect();
    assert_eq!(
        stamped,
        [(first, true), (elsewhere, true)],
        "{gathered} and {newest} joined the first, and {other} is over"
    );
    assert_eq!(sole.entries, before + 1);

    // Once it is answered the next one is new; at the end of a leadership all that are open are answered.
    let first = sole.command(1, &keep_alive(session));
    let second = sole.command(1, &keep_alive(session));
    sole.give(Input::Admin(Admin::StepDown));
    let refused: Vec<u64> = sole.answers().into_iter().map(|(id, _)| id).collect();
    assert_eq!(refused, [first, second]);
    for conn in [1, 2] {
        assert_eq!(sole.engine.requests.open(ConnId(conn)), (0, 0));
    }
}

/// New work leaves an eighth of what may be under way to what keeps or ends something.
#[test]
fn new_work_leaves_room_for_renewals() {
    let mut options = options();
    options.core.unchosen_bytes_max = 64 << 10;
    let mut sole = Sole::new(options);
    let session = sole.open(1);
    sole.command(1, &on_default(acquire(session, 100)));
    sole.sync();
    let [(_, _, Outcome::Granted { token, .. })] = sole.outcomes()[..] else {
        panic!("granted")
    };
    let refused = (1..).find(|number| {
        sole.command(1, &on_default(append(session, *number, token, 1 << 10)));
        sole.finish();
        !sole.answers().is_empty()
    });
    assert!(refused.is_some_and(|number| number > 40), "{refused:?}");
    let renewals = (101..141).map(|seq| {
        let op = Op::Renew {
            lock: "default".to_owned(),
            token,
        };
        Command::Session {
            session,
            seq: Seq(seq),
            done: Done::default(),
            op,
        }
    });
    for renewal in renewals {
        sole.command(1, &renewal);
        sole.finish();
    }
    assert_eq!(sole.answers(), [], "none is refused");
    sole.sync();
    let renewed = |outcome: &Outcome| matches!(outcome, Outcome::Renewed { .. });
    let renewals = sole.outcomes();
    assert_eq!(renewals.iter().filter(|it| renewed(&it.2)).count(), 40);
}

/// A connection that is full of new work may still say what it keeps and ends.
#[test]
fn what_keeps_something_passes_a_connection_full_of_work() {
    let mut options = options();
    options.limits.per_connection = 4;
    let mut sole = Sole::new(options);
    let session = sole.open(1);
    for number in 1..=4 {
        sole.command(1, &append(session, number, Token(1), 10));
    }
    sole.command(1, &append(session, 5, Token(1), 10));
    let [(_, ResponseBody::Unavailable { .. })] = sole.answers()[..] else {
        panic!("one too many")
    };
    sole.command(1, &keep_alive(session));
    sole.sync();
    let alive = |outcome: &Outcome| matches!(outcome, Outcome::Alive { .. });
    assert!(sole.outcomes().iter().any(|it| alive(&it.2)));
}

/// A lock with a long queue leaves room for everybody's other requests.
#[test]
fn waiting_is_no_load() {
    let mut options = options();
    options.limits = Limits {
        per_connection: 4,
        in_all: 4,
        ..Limits::default()
    };
    let mut sole = Sole::new(options);
    let holder = sole.open(1);
    sole.command(1, &acquire(holder, 1));
    sole.sync();
    let [(_, _, Outcome::Granted { token, .. })] = sole.outcomes()[..] else {
        panic!("granted")
    };
    for _ in 0..20 {
        let waiter = sole.open(2);
        sole.command(2, &acquire(waiter, 1));
        sole.sync();
        sole.answers();
    }
    let released = sole.command(1, &release(holder, 2, token));
    sole.sync();
    let done = sole.outcomes();
    assert!(
        done.iter()
            .any(|(id, _, outcome)| *id == released && matches!(outcome, Outcome::Released { .. })),
        "{done:?}"
    );
}

/// `Health` stands for new work: it says what a client's would be told.
#[test]
fn health_is_refused_when_new_work_is() {
    let mut sole = Sole::new(options());
    sole.ask(1, RequestBody::Health);
    sole.sync();
    let [(_, ResponseBody::Health { .. })] = sole.answers()[..] else {
        panic!("healthy")
    };
    sole.give(Input::DiskLow(true));
    sole.ask(1, RequestBody::Health);
    sole.sync();
    let [(_, ResponseBody::Unavailable { reason, .. })] = &sole.answers()[..] else {
        panic!("not healthy")
    };
    assert!(reason.contains("disk of the log"), "{reason}");
}
