//! Three replicas whose network and disks take no time.

use std::collections::{BTreeMap, VecDeque};

use statemachine::{Applied, At, ClusterTime};

use super::*;

struct Trio {
    engines: BTreeMap<NodeId, Engine>,
    stopped: BTreeMap<NodeId, String>,
    now: Now,
    /// Inputs that wait to be handled.
    inbox: VecDeque<(NodeId, Input)>,
    requests: u64,
}

impl Trio {
    fn new() -> Trio {
        let now = Now {
            mono: MonoTime(1_000_000),
            wall_ms: 5,
        };
        let members: Vec<Member> = (1..=3)
            .map(|node| Member {
                node: NodeId(node),
                disk: DiskId(u64::from(node)),
            })
            .collect();
        let engine = |member: &Member| {
            let mut options = options();
            let identity = Identity {
                cluster: ClusterId(1),
                node: member.node,
                disk: member.disk,
            };
            let membership = Membership {
                epoch: 1,
                members: members.clone(),
            };
            options.core = paxos::Config::new(identity, membership);
            options.core.seed = u64::from(member.node.0);
            options.core.life = paxos::Life {
                incarnation: 1,
                start: 1,
            };
            let restored = Restored {
                recovered: Recovered::default(),
                machine: Machine::new(),
                snapshot: Slot(0),
                log_bytes: 0,
            };
            (member.node, Engine::new(options, restored, now.mono))
        };
        let mut trio = Trio {
            engines: members.iter().map(engine).collect(),
            stopped: BTreeMap::new(),
            now,
            inbox: VecDeque::new(),
            requests: 0,
        };
        for at in trio.nodes() {
            for peer in trio.nodes().into_iter().filter(|&peer| peer != at) {
                let hello = trio.engines[&peer].core().hello();
                let link = 1;
                trio.inbox
                    .push_back((at, Input::PeerUp { peer, link, hello }));
            }
        }
        trio.run_ms(3_000);
        trio
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.engines.keys().copied().collect()
    }

    fn leader(&self) -> Option<NodeId> {
        let leads = |node: &NodeId| self.engines[node].role == Role::Leader;
        self.nodes().into_iter().find(leads)
    }

    fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(10) {
            self.now.mono = self.now.mono.after(10_000);
            for node in self.nodes() {
                self.inbox.push_back((node, Input::Tick));
            }
            while let Some((node, input)) = self.inbox.pop_front() {
                self.handle(node, input);
            }
        }
    }

    fn handle(&mut self, node: NodeId, input: Input) {
        let Some(engine) = self.engines.get_mut(&node) else {
            return;
        };
        let mut out = Output::default();
        engine.handle(self.now, input, &mut out);
        engine.finish(self.now, &mut out);
        if let Some(why) = out.fatal {
            self.engines.remove(&node);
            self.stopped.insert(node, why);
            return;
        }
        for envelope in out.sends {
            for to in envelope.to {
                let message = envelope.message.clone();
                let (from, link) = (node, 1);
                let input = Input::Peer {
                    from,
                    link,
                    message,
                };
                self.inbox.push_back((to, input));
            }
        }
        let durable = out.wal.last().map(|append| append.seq);
        let durable = durable.map(|seq| Input::Durable { seq });
        let number = out.remember.map(|remember| remember.number);
        let remembered = number.map(|number| Input::Remembered { number });
        let inputs = durable.into_iter().chain(remembered);
        self.inbox.extend(inputs.map(|input| (node, input)));
    }

    /// Sessions are opened at the leader until the next slot is reached whose state is hashed, and some time passes.
    fn pass_a_hash(&mut self) {
        for _ in 0..=applying::STATE_HASH_SLOTS {
            self.requests += 1;
            let command = Command::Open {
                nonce: u128::from(self.requests),
                ttl_ms: 0,
                name: "c".to_owned(),
            };
            let request = Request {
                id: self.requests,
                body: RequestBody::Command(Bytes::from(command.encode())),
            };
            let conn = ConnId(1);
            if let Some(leader) = self.leader() {
                let input = Input::Client { conn, request };
                self.inbox.push_back((leader, input));
            }
            self.run_ms(10);
        }
        self.run_ms(1_000);
    }

    /// One replica applies something else in a slot than the others, as a flipped bit in its memory or a fault of
    /// the program could have it.
    fn corrupt(&mut self, node: NodeId) {
        let mut before = self.engines[&node].machine.clone();
        self.pass_a_hash();
        let engine = self.engines.get_mut(&node).expect("a running replica");
        let at = At {
            slot: engine.machine.applied(),
            time: ClusterTime(engine.machine.time().0),
            wall_ms: 0,
        };
        before.apply(at, Applied::Time);
        engine.machine = before;
    }
}

#[test]
fn replicas_with_one_state_go_on() {
    let mut trio = Trio::new();
    for _ in 0..3 {
        trio.pass_a_hash();
    }
    assert!(trio.stopped.is_empty(), "{:?}", trio.stopped);
    assert!(trio.engines.values().all(|engine| {
        engine.applied() == trio.engines[&NodeId(1)].applied()
            && engine.applied().0 > 3 * applying::STATE_HASH_SLOTS
    }));
}

/// The chains are equal: only the hash of the state shows it.
#[test]
fn the_majority_decides_who_stops_when_states_differ() {
    for leads in [false, true] {
        let mut trio = Trio::new();
        let leader = trio.leader().expect("a leader");
        let odd = if leads {
            leader
        } else {
            NodeId(leader.0 % 3 + 1)
        };
        trio.corrupt(odd);
        assert!(trio.stopped.is_empty());
        let at = trio.engines[&odd].applied();
        trio.pass_a_hash();
        let why = trio.stopped.get(&odd).expect("the odd one stops");
        for words in [
            "replicas differ in the applied state",
            "A majority has another one",
        ] {
            assert!(why.contains(words), "{why}");
        }
        assert_eq!(trio.stopped.len(), 1, "{:?}", trio.stopped);
        trio.run_ms(5_000);
        trio.pass_a_hash();
        assert_eq!(trio.stopped.len(), 1, "{:?}", trio.stopped);
        assert!(trio.engines.values().all(|engine| engine.applied() > at));
    }
}

/// A leader that has room takes no new work while most have none: they could never apply the removal that gives them
/// some. It gives their snapshots slots, and goes on once a majority has room.
#[test]
fn new_work_needs_a_majority_with_room() {
    let mut trio = Trio::new();
    let leader = trio.leader().expect("a leader");
    let followers: Vec<NodeId> = trio
        .nodes()
        .into_iter()
        .filter(|node| *node != leader)
        .collect();
    let measured = |trio: &mut Trio, node: NodeId, bytes| {
        trio.inbox.push_back((node, Input::DiskFree(Some(bytes))));
        trio.run_ms(1_500);
    };
    const PLENTY: u64 = 1 << 40;
    measured(&mut trio, leader, PLENTY);
    measured(&mut trio, followers[0], 0);
    assert_eq!(trio.engines[&leader].refuses_work(), None);
    measured(&mut trio, followers[1], 0);
    assert_eq!(trio.leader(), Some(leader));
    let refused = trio.engines[&leader].refuses_work();
    assert!(
        refused.is_some_and(|why| why.contains("most replicas")),
        "new work is taken"
    );
    let applied = trio.engines[&leader].applied();
    measured(&mut trio, leader, PLENTY);
    assert!(trio.engines[&leader].applied() > applied, "no new slot");
    let sessions = trio.engines[&leader].applied();
    trio.pass_a_hash();
    let opened = trio.engines[&leader].applied().0 - sessions.0;
    assert!(opened >= 64, "{opened} sessions were opened");
    measured(&mut trio, followers[0], PLENTY);
    assert_eq!(trio.engines[&leader].refuses_work(), None);
}
