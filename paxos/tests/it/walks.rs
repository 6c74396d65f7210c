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
    cuts: Cuts,
}

/// How far logs are cut. A walk whose logs are never cut goes the same way as before there were cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cuts {
    Never,
    /// To what another member lacks.
    ToWhatIsNeeded,
    /// To the last snapshot, whatever others lack.
    AtCap,
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
            cuts: Cuts::Never,
        };
        Walk {
            cluster: Cluster::new(shape),
            dice,
            weather,
            dead: Vec::new(),
        }
    }

    /// A walk that cuts logs, in better weather than others: something has to be chosen, to be cut.
    fn with_cuts(nodes: u16, seed: u64) -> Walk {
        let mut walk = Walk::new(nodes, seed);
        walk.weather.cuts = match seed % 2 {
            0 => Cuts::ToWhatIsNeeded,
            _ => Cuts::AtCap,
        };
        walk.weather.loss = walk.weather.loss.min(2);
        walk
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
            _ if self.weather.cuts == Cuts::Never => Ok(()),
            _ if self.dice.percent(50) => self.cluster.snapshot(node),
            _ => self.cluster.cut(node, self.weather.cuts == Cuts::AtCap),
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

/// What walks reached, so that silence is no success.
#[derive(Debug, Default)]
struct Reached {
    published: u64,
    reads: u64,
    cuts: u64,
    cut_starts: u64,
    left_behind: u64,
}

/// Runs the default walks until one breaks a rule.
fn walk_all(nodes: u16, walks: u64, steps: usize) -> Reached {
    run_all(&format!("walks_over_{nodes}"), walks, |seed| {
        let mut walk = Walk::new(nodes, seed);
        (walk.run(steps), walk)
    })
}

/// Runs walks that cut logs. Nobody may lack what was cut unless logs are capped.
fn walk_with_cuts(nodes: u16, walks: u64, steps: usize) -> Reached {
    run_all(&format!("cut_logs_over_{nodes}"), walks, |seed| {
        let mut walk = Walk::with_cuts(nodes, seed);
        let verdict = walk.run(steps);
        assert!(
            walk.weather.cuts == Cuts::AtCap || walk.cluster.left_behind == 0,
            "a log was cut below what a member lacks"
        );
        (verdict, walk)
    })
}

fn run_all(
    test: &str,
    walks: u64,
    run: impl Fn(u64) -> (paxos::ghost::Verdict, Walk) + std::panic::RefUnwindSafe,
) -> Reached {
    let seeds = match number("PAXOS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PAXOS_WALKS").unwrap_or(walks),
    };
    let mut reached = Reached::default();
    for seed in seeds {
        let again = format!("PAXOS_SEED={seed} cargo test -p paxos --test it {test}");
        match std::panic::catch_unwind(|| run(seed)) {
            Ok((Ok(()), walk)) => {
                reached.published += walk.cluster.ghost.published().0;
                reached.reads += walk.cluster.reads_answered;
                reached.cuts += walk.cluster.cuts;
                reached.cut_starts += walk.cluster.cut_starts;
                reached.left_behind += walk.cluster.left_behind;
            }
            Ok((Err(violation), _)) => panic!("walk {seed}: {violation}\nagain: {again}"),
            Err(_) => panic!("walk {seed} hit an assertion\nagain: {again}"),
        }
    }
    println!("{test}: {reached:?}");
    reached
}

fn is_single_seed() -> bool {
    number("PAXOS_SEED").is_some()
}

#[test]
fn walks_over_3() {
    let reached = walk_all(3, 5_000, 500);
    assert!(is_single_seed() || (reached.published > 3_000 && reached.reads > 300));
}

#[test]
fn walks_over_5() {
    let reached = walk_all(5, 2_000, 700);
    assert!(is_single_seed() || (reached.published > 500 && reached.reads > 50));
}

#[test]
fn cut_logs_over_3() {
    let Reached {
        cuts,
        cut_starts,
        left_behind,
        ..
    } = walk_with_cuts(3, 500, 1_500);
    assert!(is_single_seed() || (cuts > 300 && cut_starts > 100 && left_behind > 30));
}

#[test]
fn cut_logs_over_5() {
    let Reached { cuts, .. } = walk_with_cuts(5, 100, 3_000);
    assert!(is_single_seed() || cuts > 100);
}

#[test]
#[ignore = "minutes; more seeds of the two above"]
fn many_walks() {
    walk_all(3, 100_000, 1_500);
    walk_all(5, 50_000, 2_500);
    walk_with_cuts(3, 50_000, 2_000);
    walk_with_cuts(5, 10_000, 3_000);
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
