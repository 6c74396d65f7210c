//! Exhaustive search: every order of a few things, breadth first, over the real cores.
//!
//! A state is reached by a path of actions and rebuilt from it, so that the frontier costs no
//! memory; two paths to the same state (the text of all cores, messages and disks) count once.
//! Probes have no durable effect and are answered within the action that starts them; heartbeats
//! are left out. Messages may come in any order, or never; at a crash any prefix of what was on
//! its way to the disk survives.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};

use paxos::ghost::Verdict;
use paxos::{Admin, Input, Message, NodeId};

use crate::cluster::{Cluster, Shape};

/// How often each thing may happen, and when to stop.
#[derive(Clone, Copy, Debug)]
struct Limits {
    nodes: u16,
    campaigns: usize,
    proposals: usize,
    crashes: usize,
    depth: usize,
    states: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Campaign(NodeId),
    Propose(NodeId),
    Sync(NodeId),
    Crash(NodeId, usize),
    Deliver(usize),
}

#[derive(Clone)]
struct State {
    cluster: Cluster,
    campaigns: usize,
    proposals: usize,
    crashes: usize,
}

#[derive(Debug)]
struct Found {
    states: usize,
    depth: usize,
    exhausted: bool,
    chosen: u64,
}

impl State {
    fn new(limits: Limits) -> State {
        let mut cluster = Cluster::unstarted(Shape {
            instant: true,
            ..Shape::of(limits.nodes, 1)
        });
        for node in cluster.nodes() {
            cluster.start(node).expect("an empty disk");
        }
        State {
            cluster,
            campaigns: 0,
            proposals: 0,
            crashes: 0,
        }
    }

    fn actions(&self, limits: Limits) -> Vec<Action> {
        let mut actions = Vec::new();
        for node in self.cluster.nodes() {
            if self.campaigns < limits.campaigns {
                actions.push(Action::Campaign(node));
            }
            let unsynced = self.cluster.unsynced.get(&node).map_or(0, VecDeque::len);
            if unsynced > 0 {
                actions.push(Action::Sync(node));
            }
            if self.crashes < limits.crashes {
                actions.extend((0..=unsynced).map(|kept| Action::Crash(node, kept)));
            }
        }
        if self.proposals < limits.proposals {
            actions.extend(self.cluster.leaders().into_iter().map(Action::Propose));
        }
        actions.extend((0..self.cluster.flights.len()).map(Action::Deliver));
        actions
    }

    fn act(&mut self, action: Action) -> Verdict {
        match action {
            Action::Campaign(node) => {
                self.campaigns += 1;
                self.cluster.now = self.cluster.now.after(100);
                self.cluster.step(node, Input::Admin(Admin::Campaign))?;
                self.deliver_probes()?;
            }
            Action::Propose(node) => {
                self.proposals += 1;
                let text = format!("p{}", self.proposals);
                self.cluster.propose(node, text.as_bytes())?;
            }
            Action::Sync(node) => self.cluster.sync(node, 1)?,
            Action::Crash(node, kept) => {
                self.crashes += 1;
                self.cluster.crash(node, kept)?;
                self.cluster.start(node)?;
            }
            Action::Deliver(index) => {
                let flight = self.cluster.flights.remove(index);
                self.cluster.deliver(flight)?;
            }
        }
        self.tidy();
        Ok(())
    }

    fn deliver_probes(&mut self) -> Verdict {
        let probe = |m: &Message| matches!(m, Message::Probe(_) | Message::ProbeReply(_));
        while let Some(at) = self.cluster.flights.iter().position(|f| probe(&f.message)) {
            let flight = self.cluster.flights.remove(at);
            self.cluster.deliver(flight)?;
        }
        Ok(())
    }

    /// Drops heartbeats and what no link carries any more; equal messages are one.
    fn tidy(&mut self) {
        let links: BTreeSet<u64> = self.cluster.links.values().copied().collect();
        let beat = |m: &Message| matches!(m, Message::Heartbeat(_) | Message::HeartbeatAck(_));
        self.cluster
            .flights
            .retain(|f| !beat(&f.message) && links.contains(&f.link));
        self.cluster
            .flights
            .sort_by_cached_key(|flight| format!("{flight:?}"));
        self.cluster
            .flights
            .dedup_by_key(|flight| format!("{flight:?}"));
    }

    fn key(&self) -> u64 {
        let Cluster {
            cores,
            flights,
            unsynced,
            ..
        } = &self.cluster;
        let counts = (self.campaigns, self.proposals, self.crashes);
        let mut hasher = DefaultHasher::new();
        format!("{cores:?}{flights:?}{unsynced:?}{counts:?}").hash(&mut hasher);
        hasher.finish()
    }
}

fn rebuild(limits: Limits, path: &[Action]) -> State {
    let mut state = State::new(limits);
    for &action in path {
        state.act(action).expect("walked before");
    }
    state
}

fn search(limits: Limits) -> Found {
    let mut seen = BTreeSet::new();
    let mut frontier = VecDeque::from([Vec::new()]);
    let mut found = Found {
        states: 0,
        depth: 0,
        exhausted: true,
        chosen: 0,
    };
    while let Some(path) = frontier.pop_front() {
        if path.len() == limits.depth {
            found.exhausted = false;
            continue;
        }
        let state = rebuild(limits, &path);
        for action in state.actions(limits) {
            let mut next = state.clone();
            let mut longer = path.clone();
            longer.push(action);
            if let Err(violation) = next.act(action) {
                panic!("{violation}\nafter {longer:#?}");
            }
            if seen.insert(next.key()) {
                found.states += 1;
                found.depth = found.depth.max(longer.len());
                found.chosen = found.chosen.max(next.cluster.ghost.published().0);
                frontier.push_back(longer);
            }
        }
        if found.states >= limits.states {
            found.exhausted = false;
            break;
        }
    }
    println!("{limits:?}: {found:?}");
    found
}

const SMALL: Limits = Limits {
    nodes: 3,
    campaigns: 1,
    proposals: 0,
    crashes: 1,
    depth: 40,
    states: 10_000,
};

/// One candidacy and one crash anywhere: every state there is.
#[test]
fn one_candidacy_one_crash() {
    let found = search(SMALL);
    assert!(
        found.exhausted && found.states > 3_000 && found.chosen >= 1,
        "{found:?}"
    );
}

/// Two rivals, no crash, as far as a few seconds go.
#[test]
fn two_rivals() {
    let found = search(Limits {
        campaigns: 2,
        crashes: 0,
        ..SMALL
    });
    assert!(found.states >= 5_000 && found.chosen >= 1, "{found:?}");
}

#[test]
#[ignore = "minutes and gigabytes; the same, complete or deeper"]
fn deep() {
    search(Limits {
        states: 1_000_000,
        ..SMALL
    });
    search(Limits {
        campaigns: 2,
        crashes: 0,
        states: 1_000_000,
        ..SMALL
    });
    search(Limits {
        campaigns: 2,
        proposals: 1,
        crashes: 1,
        states: 1_000_000,
        ..SMALL
    });
}
