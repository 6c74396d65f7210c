//! Golden scripts: stories in `testscripts/`, with what the cores answered recorded below `---`.
//!
//! `UPDATE=1 cargo test -p paxos --test it script` records anew; read the difference like code.
//!
//! | command | does |
//! |---|---|
//! | `cluster N [leader=L] [window=BYTES] [tail=BYTES]` | starts N replicas, connected; L leads |
//! | `campaign N` | replica N asks to lead |
//! | `wake N` | time passes until N's next timer, which fires |
//! | `pass MS` | time passes, nothing fires |
//! | `deliver [A>B] [KIND]` | what is on its way arrives, once, in order |
//! | `drop [A>B] [KIND]` | it is lost |
//! | `double [A>B] [KIND]` | it will arrive twice |
//! | `sync N [COUNT]` | N's disk finishes everything, or COUNT submissions |
//! | `beat N [COUNT]` | N's next timer, and all that follows but for disks, unrecorded |
//! | `settle` | everything arrives and every disk finishes, unrecorded |
//! | `propose N TEXT`, `read N` | a client's wish |
//! | `transfer N M`, `stepdown N` | an operator's wish |
//! | `crash N [KEEP]`, `restart N` | of what was on its way to the disk KEEP submissions survive |
//! | `reset A B`, `connect A B` | a connection breaks, stands again |
//! | `hello A B [disk=D] [life=I/S] [knows=I/S] [last=SLOT] [ballot=R.N] [accepted=SLOT]` | B introduces itself to A so, and remembers that of A |
//! | `copy N`, `putback N` | an operator copies N's folder; puts the copy back, N being dead |
//! | `unwatched` | agreement is about to be broken from outside: the ghost says no more |
//! | `stops` | from here on a replica may stop by itself |
//! | `hash N SLOT HASH` | N's application says what its state hashes to |
//! | `snapshot N SLOT` | N's application saved a snapshot |
//! | `cut N` | N's log has reached its cap: what is behind the snapshot goes |
//! | `status` | one line per replica |

use std::fmt::Write as _;
use std::path::Path;

use paxos::ghost::Verdict;
use paxos::{
    Admin, Ballot, DiskId, Input, Life, Mark, Memory, NodeId, Outbox, PeerHello, Role, Slot,
    Testimony,
};

use crate::cluster::{Cluster, Flight, Shape};
use crate::describe;

#[test]
fn scripts() {
    crate::golden::run_folder(Path::new("testscripts"), || {
        let mut cluster: Option<Cluster> = None;
        move |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words[0] == "cluster" {
                cluster = Some(start(&words));
                return String::new();
            }
            run(
                cluster.as_mut().expect("a script begins with `cluster`"),
                &words,
            )
        }
    });
}

fn start(words: &[&str]) -> Cluster {
    let mut shape = Shape::of(number(words[1]), 1);
    let mut leader = None;
    for option in &words[2..] {
        match option.split_once('=') {
            Some(("window", bytes)) => shape.window_bytes = number(bytes),
            Some(("leader", node)) => leader = Some(NodeId(number(node))),
            Some(("tail", bytes)) => shape.tail_bytes = number(bytes),
            _ => panic!("unknown option {option}"),
        }
    }
    let mut cluster = Cluster::new(shape);
    if let Some(leader) = leader {
        cluster
            .step(leader, Input::Admin(Admin::Campaign))
            .expect("a fresh cluster");
        cluster.settle().expect("a fresh cluster");
    }
    cluster
}

fn run(cluster: &mut Cluster, words: &[&str]) -> String {
    cluster.record = Some(Vec::new());
    let said = command(cluster, words);
    let mut text = String::new();
    for (node, out) in cluster.record.take().unwrap_or_default() {
        describe_out(node, &out, &mut text);
    }
    text + &said
}

fn command(cluster: &mut Cluster, words: &[&str]) -> String {
    let node = |at: usize| NodeId(number(words[at]));
    let verdict = match words[0] {
        "campaign" => cluster.step(node(1), Input::Admin(Admin::Campaign)),
        "stepdown" => cluster.step(node(1), Input::Admin(Admin::StepDown)),
        "transfer" => cluster.step(node(1), Input::Admin(Admin::Transfer { to: node(2) })),
        "wake" => cluster.wake(node(1)),
        "pass" => {
            cluster.now = cluster.now.after(1000 * number::<u64>(words[1]));
            Ok(())
        }
        "deliver" => {
            let flights = take_flights(cluster, &words[1..]);
            flights
                .into_iter()
                .try_for_each(|flight| cluster.deliver(flight))
        }
        "drop" => return format!("lost: {}\n", take_flights(cluster, &words[1..]).len()),
        "double" => {
            let flights = take_flights(cluster, &words[1..]);
            cluster
                .flights
                .extend(flights.iter().chain(&flights).cloned());
            Ok(())
        }
        "sync" => cluster.sync(
            node(1),
            words.get(2).map_or(usize::MAX, |count| number(count)),
        ),
        "beat" => {
            let count = words.get(2).map_or(1, |count| number(count));
            let verdict = (0..count).try_for_each(|_: u32| beat(cluster, node(1)));
            cluster.record = None;
            verdict
        }
        "settle" => {
            let verdict = cluster.settle();
            cluster.record = None;
            verdict
        }
        "propose" => cluster.propose(node(1), words[2].as_bytes()),
        "read" => cluster.read(node(1)),
        "crash" => cluster.crash(node(1), words.get(2).map_or(0, |kept| number(kept))),
        "restart" => cluster.start(node(1)),
        "reset" => cluster.disconnect(node(1), node(2), true),
        "connect" => cluster.connect(node(1), node(2)),
        "hello" => return hello(cluster, words),
        "copy" => {
            cluster.copy_folder(node(1));
            Ok(())
        }
        "putback" => {
            cluster.put_back(node(1));
            Ok(())
        }
        "unwatched" => {
            cluster.unwatched = true;
            Ok(())
        }
        "stops" => {
            cluster.may_stop = true;
            Ok(())
        }
        "hash" => {
            let (slot, hash) = (Slot(number(words[2])), number(words[3]));
            cluster.step(node(1), Input::StateHash { slot, hash })
        }
        "snapshot" => {
            let slot = Slot(number(words[2]));
            cluster.step(
                node(1),
                Input::SnapshotSaved {
                    slot,
                    meta: "meta".into(),
                },
            )
        }
        "cut" => cluster.cut(node(1), true),
        "status" => return status(cluster),
        other => panic!("unknown command {other}"),
    };
    verdict
        .err()
        .map(|violation| format!("VIOLATION {violation}\n"))
        .unwrap_or_default()
}

fn beat(cluster: &mut Cluster, node: NodeId) -> Verdict {
    cluster.wake(node)?;
    for _ in 0..2 {
        for flight in std::mem::take(&mut cluster.flights) {
            cluster.deliver(flight)?;
        }
    }
    Ok(())
}

/// The messages that a filter such as `1>2 accept` names, in the order in which they were sent.
fn take_flights(cluster: &mut Cluster, filter: &[&str]) -> Vec<Flight> {
    let named = |flight: &Flight| {
        filter.iter().all(|word| match word.split_once('>') {
            Some((from, to)) => {
                (flight.from, flight.to) == (NodeId(number(from)), NodeId(number(to)))
            }
            None => flight.message.name() == *word,
        })
    };
    let flights = std::mem::take(&mut cluster.flights);
    let (taken, left) = flights.into_iter().partition(named);
    cluster.flights = left;
    taken
}

/// Outside the ghost's view: it knows no broken disks.
fn hello(cluster: &mut Cluster, words: &[&str]) -> String {
    let (at, peer) = (NodeId(number(words[1])), NodeId(number(words[2])));
    let mut hello = PeerHello {
        node: peer,
        disk: crate::cluster::disk(peer),
        life: Life {
            incarnation: 9,
            start: 9,
        },
        witness: Vec::new(),
    };
    let mut known = Memory::default();
    for option in &words[3..] {
        match option.split_once('=') {
            Some(("disk", disk)) => hello.disk = DiskId(number(disk)),
            Some(("life", life)) => hello.life = life_of(life),
            Some(("knows", life)) => known.life = life_of(life),
            Some(("last", slot)) => known.last = Slot(number(slot)),
            Some(("accepted", slot)) => known.accepted = Slot(number(slot)),
            Some(("ballot", ballot)) => known.ballot = ballot_of(ballot),
            _ => panic!("unknown option {option}"),
        }
    }
    hello.witness.push(Testimony {
        node: at,
        memory: known,
        mark: Mark::default(),
    });
    let mut out = Outbox::default();
    let now = cluster.now;
    let core = cluster.cores.get_mut(&at).expect("a running replica");
    core.step(
        now,
        Input::PeerUp {
            peer,
            link: 1_000,
            hello,
        },
        &mut out,
    );
    let mut text = String::new();
    describe_out(at, &out, &mut text);
    text
}

fn life_of(text: &str) -> Life {
    let (incarnation, start) = text.split_once('/').expect("incarnation/start");
    Life {
        incarnation: number(incarnation),
        start: number(start),
    }
}

fn ballot_of(text: &str) -> Ballot {
    let (round, node) = text.split_once('.').expect("round.node");
    Ballot::new(number(round), NodeId(number(node)))
}

fn describe_out(node: NodeId, out: &Outbox, text: &mut String) {
    for line in describe::outbox(out) {
        writeln!(text, "{node}: {line}").expect("writing to a string");
    }
}

fn status(cluster: &Cluster) -> String {
    let mut text = String::new();
    for (node, why) in &cluster.stopped {
        writeln!(text, "{node}: stopped: {why}").expect("string");
    }
    for (node, core) in &cluster.cores {
        let s = core.status();
        let role = format!("{:?}", s.role).to_lowercase();
        write!(text, "{node}: {role} {} promised={}", s.ballot, s.promised).expect("string");
        writeln!(text, " chosen={} last={}", s.chosen, s.last).expect("string");
        if s.role == Role::Leader {
            for peer in s.peers.iter().filter(|peer| peer.up) {
                let next = peer
                    .next
                    .map_or_else(|| "?".to_owned(), |next| next.to_string());
                let (peer, durable) = (peer.node, peer.durable);
                writeln!(text, "   stream to {peer}: next={next} durable={durable}")
                    .expect("string");
            }
        }
    }
    text
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is no number"))
}
