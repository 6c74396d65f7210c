//! Random walks: anything may happen next, and the ghost watches.
//!
//! `PAXOS_WALKS=n` sets how many walks, `PAXOS_SEED=n` repeats one.

use paxos::{Admin, Input, Message, NodeId};

use crate::cluster::{Cluster, Shape};

/// Chance for the walks alone, apart from the cores' own.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }

    pub(crate) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        if of.is_empty() {
            None
        } else {
            Some(of[self.below(of.len())])
        }
    }
}

/// Which faults a walk has, drawn per seed: a fault that always happens hides others.
struct Weather {
    loss: usize,
    doubling: usize,
    crash: usize,
    in_order: bool,
    lazy_disk: bool,
    /// One replica is elected again and again while messages of its earlier leaderships come late
    /// and twice: the only weather in which counting an old acknowledgement shows.
    grudge: bool,
}

struct Walk {
    cluster: Cluster,
    dice: Dice,
    weather: Weather,
    dead: Vec<NodeId>,
}

impl Walk {
    fn new(nodes: u16, seed: u64) -> Walk {
        let mut dice = Dice::new(seed);
        let mut shape = Shape::of(nodes, seed);
        if dice.percent(40) {
            shape.window_bytes = 40;
        }
        if dice.percent(40) {
            shape.tail_bytes = 0;
        }
        let weather = Weather {
            loss: [0, 2, 20][dice.below(3)],
            doubling: [0, 10][dice.below(2)],
            crash: [0, 1, 3][dice.below(3)],
            in_order: dice.percent(40),
            lazy_disk: dice.percent(30),
            grudge: dice.percent(30),
        };
        Walk {
            cluster: Cluster::new(shape),
            dice,
            weather,
            dead: Vec::new(),
        }
    }

    fn run(&mut self, steps: usize) -> paxos::ghost::Verdict {
        for _ in 0..steps {
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> paxos::ghost::Verdict {
        let nodes = self.cluster.nodes();
        let node = self.dice.pick(&nodes).expect("some nodes");
        let sync = if self.weather.lazy_disk { 62 } else { 75 };
        match self.dice.below(100) {
            0..50 => self.deliver(),
            50..75 if self.dice.below(100) < sync => {
                let count = 1 + self.dice.below(3);
                self.cluster.sync(node, count)
            }
            75..84 => {
                let leader = self.dice.pick(&self.cluster.leaders()).unwrap_or(node);
                let text = format!("v{}", self.dice.below(1000));
                self.cluster.propose(leader, text.as_bytes())
            }
            84..88 => {
                let leader = self.dice.pick(&self.cluster.leaders()).unwrap_or(node);
                self.cluster.read(leader)
            }
            88..92 => self.cluster.wake(node),
            92..94 => {
                self.cluster.now = self.cluster.now.after(self.dice.below(60_000) as u64);
                self.cluster.tick(node)
            }
            94..96 => self.crash_or_start(node),
            96 => {
                let other = self.dice.pick(&nodes).expect("some nodes");
                if other == node || self.dead.contains(&node) || self.dead.contains(&other) {
                    return Ok(());
                }
                self.cluster.disconnect(node, other, true)?;
                self.cluster.connect(node, other)
            }
            97 if self.weather.grudge => {
                // The others forget their leader, so that the old one may stand again.
                self.cluster.now = self.cluster.now.after(600_000);
                self.cluster.step(NodeId(1), Input::Admin(Admin::Campaign))
            }
            97 => self.cluster.step(node, Input::Admin(Admin::Campaign)),
            98 if self.dice.percent(30) => {
                let leader = self.dice.pick(&self.cluster.leaders()).unwrap_or(node);
                self.cluster
                    .step(leader, Input::Admin(Admin::Transfer { to: node }))
            }
            _ => Ok(()),
        }
    }

    fn deliver(&mut self) -> paxos::ghost::Verdict {
        if self.cluster.flights.is_empty() {
            return Ok(());
        }
        let at = if self.weather.in_order {
            0
        } else {
            self.dice.below(self.cluster.flights.len())
        };
        let flight = self.cluster.flights.remove(at);
        if self.dice.percent(self.weather.loss) {
            return Ok(());
        }
        let old = self.weather.grudge && matches!(flight.message, Message::Accepted(_));
        if self
            .dice
            .percent(if old { 80 } else { self.weather.doubling })
        {
            self.cluster.flights.push(flight.clone());
        }
        self.cluster.deliver(flight)
    }

    fn crash_or_start(&mut self, node: NodeId) -> paxos::ghost::Verdict {
        if let Some(at) = self.dead.iter().position(|&dead| dead == node) {
            self.dead.remove(at);
            return self.cluster.start(node);
        }
        if self.dice.percent(self.weather.crash * 30) {
            let unsynced = self.cluster.unsynced[&node].len();
            let kept = self.dice.below(unsynced + 1);
            self.dead.push(node);
            return self.cluster.crash(node, kept);
        }
        Ok(())
    }
}

/// A knob of a test, from the environment.
#[allow(clippy::disallowed_methods)] // The core is not asked; the test is.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs walks until one breaks a rule; gives what was reached, so that silence is no success.
fn walk_all(nodes: u16, walks: u64, steps: usize) -> (u64, u64) {
    let seeds = match number("PAXOS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PAXOS_WALKS").unwrap_or(walks),
    };
    let (mut published, mut reads) = (0, 0);
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut walk = Walk::new(nodes, seed);
            let verdict = walk.run(steps);
            (
                verdict,
                walk.cluster.ghost.published().0,
                walk.cluster.reads_answered,
            )
        });
        let again = format!("PAXOS_SEED={seed} cargo test -p paxos --test it walks_over_{nodes}");
        match outcome {
            Ok((Ok(()), slots, answered)) => {
                published += slots;
                reads += answered;
            }
            Ok((Err(violation), ..)) => panic!("walk {seed}: {violation}\nagain: {again}"),
            Err(_) => panic!("walk {seed} hit an assertion\nagain: {again}"),
        }
    }
    (published, reads)
}

#[test]
fn walks_over_3() {
    let (published, reads) = walk_all(3, 5_000, 500);
    println!("3 nodes: {published} slots chosen, {reads} reads answered");
    assert!(number("PAXOS_SEED").is_some() || (published > 3_000 && reads > 300));
}

#[test]
fn walks_over_5() {
    let (published, reads) = walk_all(5, 2_000, 700);
    println!("5 nodes: {published} slots chosen, {reads} reads answered");
    assert!(number("PAXOS_SEED").is_some() || (published > 500 && reads > 50));
}

#[test]
#[ignore = "minutes; more seeds of the two above"]
fn many_walks() {
    walk_all(3, 100_000, 1_500);
    walk_all(5, 50_000, 2_500);
}

/// The plain case, first to fail when something is broken everywhere.
#[test]
fn three_elect_replicate_and_read() {
    let mut cluster = Cluster::new(Shape::of(3, 1));
    let leader = NodeId(1);
    cluster.wake(leader).unwrap();
    cluster.settle().unwrap();
    assert_eq!(cluster.leaders(), [leader]);
    for text in ["a", "b", "c"] {
        cluster.propose(leader, text.as_bytes()).unwrap();
    }
    cluster.read(leader).unwrap();
    cluster.settle().unwrap();
    assert_eq!(cluster.reads_answered, 1);
    for core in cluster.cores.values() {
        assert_eq!(core.status().chosen.0, 4, "LeaderStart and three commands");
    }
}
