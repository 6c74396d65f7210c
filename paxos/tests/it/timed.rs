//! A cluster on a clock: links with latency, disks that take their time, cuts and stalls.

use std::collections::{BTreeMap, BTreeSet};

use paxos::{Admin, Input, MonoTime, NodeId, Role, Slot};

use crate::cluster::{Cluster, Flight, Shape};
use crate::walks::Dice;

/// The election timeout of the default configuration, microseconds.
pub(crate) const E: u64 = 500_000;

#[derive(Debug)]
enum Event {
    Arrive(Flight),
    Synced(NodeId, u64, usize),
}

/// A cluster, its clock and what is wrong with it.
pub(crate) struct Timed {
    pub(crate) cluster: Cluster,
    pub(crate) dice: Dice,
    events: BTreeMap<(MonoTime, u64), Event>,
    count: u64,
    /// When the last message of a link arrives: links deliver in order.
    arrivals: BTreeMap<(NodeId, NodeId), MonoTime>,
    /// Directed: nothing of the first reaches the second.
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    pub(crate) stalled: BTreeSet<NodeId>,
    pub(crate) paused: BTreeSet<NodeId>,
    syncing: BTreeMap<NodeId, u64>,
    pub(crate) loss_percent: usize,
    /// How long a sync takes, by node; a few hundred microseconds where nothing is said. A promise
    /// takes two: the log beside the first superblock, then the second.
    pub(crate) sync_us: BTreeMap<NodeId, u64>,
    /// Bytes per second of each directed link; without limit by default.
    pub(crate) bandwidth: Option<u64>,
    /// These nodes get a turn only once in so many microseconds, for messages and timers alike.
    pub(crate) late_us: BTreeMap<NodeId, u64>,
    pub(crate) elections: usize,
    leaders_seen: BTreeSet<(u64, NodeId)>,
}

impl Timed {
    pub(crate) fn new(shape: Shape) -> Timed {
        Timed {
            cluster: Cluster::new(shape),
            dice: Dice::new(shape.seed),
            events: BTreeMap::new(),
            count: 0,
            arrivals: BTreeMap::new(),
            cut: BTreeSet::new(),
            stalled: BTreeSet::new(),
            paused: BTreeSet::new(),
            syncing: BTreeMap::new(),
            loss_percent: 0,
            sync_us: BTreeMap::new(),
            bandwidth: None,
            late_us: BTreeMap::new(),
            elections: 0,
            leaders_seen: BTreeSet::new(),
        }
    }

    /// A cluster in which `leader` leads and everybody knows.
    pub(crate) fn led_by(leader: u16, shape: Shape) -> Timed {
        let mut timed = Timed::new(shape);
        timed
            .cluster
            .step(NodeId(leader), Input::Admin(Admin::Campaign))
            .unwrap();
        timed.run(E / 4);
        assert_eq!(timed.leader(), Some(NodeId(leader)));
        timed
    }

    pub(crate) fn now(&self) -> MonoTime {
        self.cluster.now
    }

    /// Time passes.
    pub(crate) fn run(&mut self, us: u64) {
        self.run_until(us, |_| false);
    }

    /// Time passes until `done`, at most `us`; gives how long it took, or `None`.
    pub(crate) fn run_until(
        &mut self,
        us: u64,
        mut done: impl FnMut(&mut Timed) -> bool,
    ) -> Option<u64> {
        let begin = self.now();
        let end = begin.after(us);
        loop {
            if done(self) {
                return Some(self.now().since(begin));
            }
            self.collect();
            let event = self.events.keys().next().map(|key| key.0);
            let wake = self.next_wake();
            let at = event.into_iter().chain(wake.map(|(at, _)| at)).min();
            let Some(at) = at.filter(|at| *at <= end) else {
                self.cluster.now = end;
                return None;
            };
            self.cluster.now = self.cluster.now.max(at);
            match wake {
                Some((due, node)) if due == at => self.cluster.tick(node).unwrap(),
                _ => self.next_event(),
            }
            self.note_leaders();
        }
    }

    fn next_event(&mut self) {
        let Some((_, event)) = self.events.pop_first() else {
            return;
        };
        match event {
            Event::Arrive(flight) => {
                if self.cut.contains(&(flight.from, flight.to)) {
                    return;
                }
                if self.paused.contains(&flight.to) {
                    self.schedule(1_000, Event::Arrive(flight));
                    return;
                }
                let turn = self.turn(flight.to, self.now());
                if turn > self.now() {
                    self.schedule(turn.since(self.now()), Event::Arrive(flight));
                    return;
                }
                self.cluster.deliver(flight).unwrap();
            }
            Event::Synced(node, begun, count) => {
                if self.syncing.get(&node) == Some(&begun) {
                    if self.stalled.contains(&node) || self.paused.contains(&node) {
                        self.schedule(5_000, Event::Synced(node, begun, count));
                        return;
                    }
                    let turn = self.turn(node, self.now());
                    if turn > self.now() {
                        let wait_us = turn.since(self.now());
                        self.schedule(wait_us, Event::Synced(node, begun, count));
                        return;
                    }
                    self.syncing.remove(&node);
                    self.cluster.sync(node, count).unwrap();
                }
            }
        }
    }

    /// Takes what the last step wanted and plans its arrival; what is chosen is applied at once.
    fn collect(&mut self) {
        for node in self.cluster.nodes() {
            let core = self.cluster.cores.get(&node);
            let status = core.map(paxos::Core::status);
            if let Some(status) = status.filter(|status| status.applied < status.chosen) {
                let slot = status.chosen;
                self.cluster.step(node, Input::Applied { slot }).unwrap();
            }
        }
        for flight in std::mem::take(&mut self.cluster.flights) {
            if self.dice.percent(self.loss_percent) {
                continue;
            }
            let latency = 100 + self.dice.below(400) as u64;
            let key = (flight.from, flight.to);
            let earliest = self.arrivals.get(&key).copied().unwrap_or_default();
            let mut at = self.now().after(latency).max(earliest);
            if let Some(bandwidth) = self.bandwidth {
                let bytes = flight.message.encode().len() as u64;
                at = at.after(bytes * 1_000_000 / bandwidth);
            }
            self.arrivals.insert(key, at);
            self.count += 1;
            self.events.insert((at, self.count), Event::Arrive(flight));
        }
        for node in self.cluster.nodes() {
            let count = self
                .cluster
                .unsynced
                .get(&node)
                .map_or(0, |queue| queue.len());
            if count > 0 && !self.syncing.contains_key(&node) {
                self.syncing.insert(node, self.count + 1);
                let sync_us = match self.sync_us.get(&node) {
                    Some(us) if self.cluster.promises_wait(node) => 2 * us,
                    Some(us) => *us,
                    None => 100 + self.dice.below(300) as u64,
                };
                self.schedule(sync_us, Event::Synced(node, self.count + 1, count));
            }
        }
    }

    fn schedule(&mut self, after_us: u64, event: Event) {
        self.count += 1;
        self.events
            .insert((self.now().after(after_us), self.count), event);
    }

    fn next_wake(&self) -> Option<(MonoTime, NodeId)> {
        let awake = self
            .cluster
            .cores
            .iter()
            .filter(|(node, _)| !self.paused.contains(node));
        awake
            .map(|(&node, core)| (self.tick_at(node, core.next_wake().max(self.now())), node))
            .min()
    }

    /// The next moment from `at` on at which `node` looks at its messages.
    fn turn(&self, node: NodeId, at: MonoTime) -> MonoTime {
        match self.late_us.get(&node) {
            Some(every) => MonoTime(at.0.div_ceil(*every) * every),
            None => at,
        }
    }

    /// When a timer due at `at` fires: in a late turn after all that came.
    fn tick_at(&self, node: NodeId, at: MonoTime) -> MonoTime {
        if self.late_us.contains_key(&node) {
            self.turn(node, MonoTime(at.0.saturating_sub(1))).after(1)
        } else {
            at
        }
    }

    fn note_leaders(&mut self) {
        for node in self.cluster.leaders() {
            let ballot = self.cluster.cores[&node].status().ballot;
            if self.leaders_seen.insert((ballot.raw(), node)) {
                self.elections += 1;
            }
        }
    }

    /// The leader at the highest ballot.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let ballot = |node: &NodeId| self.cluster.cores[node].status().ballot;
        self.cluster.leaders().into_iter().max_by_key(ballot)
    }

    /// The round of the highest ballot that anybody has promised.
    pub(crate) fn round(&self) -> u64 {
        let cores = self.cluster.cores.values();
        let rounds = cores.map(|core| core.status().promised.round());
        rounds.max().unwrap_or_default()
    }

    pub(crate) fn crash(&mut self, node: NodeId) {
        self.syncing.remove(&node);
        let unsynced = self
            .cluster
            .unsynced
            .get(&node)
            .map_or(0, |queue| queue.len());
        let kept = self.dice.below(unsynced + 1);
        self.cluster.crash(node, kept).unwrap();
    }

    /// Both directions between every two nodes that are not on one of the lists together.
    pub(crate) fn only_connect(&mut self, pairs: &[(u16, u16)]) {
        let nodes = self.cluster.nodes();
        self.cut.clear();
        for &a in &nodes {
            for &b in &nodes {
                let open = pairs.contains(&(a.0, b.0)) || pairs.contains(&(b.0, a.0));
                if a != b && !open {
                    self.cut.insert((a, b));
                }
            }
        }
    }

    pub(crate) fn isolate(&mut self, node: NodeId) {
        for other in self.cluster.nodes() {
            self.cut.insert((node, other));
            self.cut.insert((other, node));
        }
    }

    /// Proposes now and then at whoever leads until a command proposed after the beginning is
    /// applied on all of `core`; gives how long that took.
    ///
    /// # Panics
    ///
    /// When it took more than 6 election timeouts.
    pub(crate) fn assert_live(&mut self, core: &[u16]) -> u64 {
        let mut proposed_at = MonoTime(0);
        let first_new = self.cluster.ghost.published().next();
        let before = self.cluster.placed.len();
        let took = self.run_until(6 * E, |timed| {
            if timed.now().since(proposed_at) >= 20_000 {
                proposed_at = timed.now();
                for leader in timed.cluster.leaders() {
                    timed.cluster.propose(leader, b"live").unwrap();
                }
            }
            let mut mine = timed.cluster.placed.values().skip(before);
            let chosen = |node: &u16| timed.chosen(*node);
            let all = core.iter().map(chosen).min().unwrap_or_default();
            mine.any(|slot| *slot >= first_new && *slot <= all)
        });
        let Some(took) = took else {
            for core in self.cluster.cores.values() {
                println!("{:#?}", core.status());
            }
            panic!("nothing new was chosen on all of {core:?} in 6 election timeouts");
        };
        took
    }

    pub(crate) fn chosen(&self, node: u16) -> Slot {
        let core = self.cluster.cores.get(&NodeId(node));
        core.map(|core| core.status().chosen).unwrap_or_default()
    }

    pub(crate) fn role(&self, node: u16) -> Option<Role> {
        self.cluster.cores.get(&NodeId(node)).map(paxos::Core::role)
    }
}
