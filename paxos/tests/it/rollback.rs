//! Random walks in which an operator puts an old copy of a folder back.
//!
//! Agreement may break by that: it cannot be prevented where nobody in reach remembers better. What must hold
//! is that it never stays unnoticed: once all replicas that still run have met, they have one history.

use std::collections::BTreeMap;

use paxos::{Entry, NodeId, Slot};

use crate::cluster::{Cluster, Shape};
use crate::walks::{Dice, number};

struct Rollback {
    cluster: Cluster,
    dice: Dice,
    dead: Vec<NodeId>,
}

impl Rollback {
    fn new(nodes: u16, seed: u64) -> Rollback {
        let mut cluster = Cluster::new(Shape::of(nodes, seed));
        cluster.may_stop = true;
        Rollback {
            cluster,
            dice: Dice::new(seed),
            dead: Vec::new(),
        }
    }

    fn pick(&mut self) -> NodeId {
        let nodes = self.cluster.nodes();
        self.dice.pick(&nodes).expect("some nodes")
    }

    fn steps(&mut self, steps: usize) -> paxos::ghost::Verdict {
        for _ in 0..steps {
            let node = self.pick();
            match self.dice.below(100) {
                0..60 if !self.cluster.flights.is_empty() => {
                    let flight = self.cluster.flights.remove(0);
                    self.cluster.deliver(flight)?;
                }
                60..80 => self.cluster.sync(node, 3)?,
                80..88 => {
                    let leader = self.dice.pick(&self.cluster.leaders()).unwrap_or(node);
                    let text = format!("v{}", self.dice.below(1_000_000));
                    self.cluster.propose(leader, text.as_bytes())?;
                }
                88..96 => self.cluster.wake(node)?,
                96 => self.crash(node)?,
                97 | 98 => self.start()?,
                _ => {}
            }
        }
        Ok(())
    }

    fn crash(&mut self, node: NodeId) -> paxos::ghost::Verdict {
        if self.cluster.cores.contains_key(&node) {
            self.dead.push(node);
            return self.cluster.crash(node, 0);
        }
        Ok(())
    }

    fn start(&mut self) -> paxos::ghost::Verdict {
        match self.dead.pop() {
            Some(node) => self.cluster.start(node),
            None => Ok(()),
        }
    }

    /// Everybody who may run runs, hears the others, and time passes.
    fn heal(&mut self) -> paxos::ghost::Verdict {
        while !self.dead.is_empty() {
            self.start()?;
        }
        self.cluster.settle()?;
        for _ in 0..200 {
            let wakes = self.cluster.cores.iter();
            let next = wakes.map(|(&node, core)| (core.next_wake(), node)).min();
            if let Some((_, node)) = next {
                self.cluster.wake(node)?;
            }
            if self.dice.percent(10)
                && let Some(leader) = self.dice.pick(&self.cluster.leaders())
            {
                self.cluster.propose(leader, b"after")?;
            }
            self.cluster.settle()?;
        }
        Ok(())
    }
}

/// The first slot at which two running replicas hold different chosen values.
fn difference(cluster: &Cluster) -> Option<(Slot, NodeId, NodeId)> {
    let mut seen: BTreeMap<Slot, (NodeId, &Entry)> = BTreeMap::new();
    for node in cluster.cores.keys() {
        for (slot, entry) in cluster.histories.get(node).into_iter().flatten() {
            let (other, known) = seen.entry(*slot).or_insert((*node, entry));
            if *known != entry {
                return Some((*slot, *other, *node));
            }
        }
    }
    None
}

/// What became of one walk.
#[derive(Debug, Default)]
struct Tally {
    stopped: usize,
    broken: usize,
}

fn walk(nodes: u16, seed: u64, tally: &mut Tally) -> paxos::ghost::Verdict {
    let mut walk = Rollback::new(nodes, seed);
    walk.steps(300)?;
    let victim = walk.pick();
    walk.cluster.copy_folder(victim);
    walk.steps(200)?;
    // A few die with the victim, so that at times nobody is left who remembers.
    walk.crash(victim)?;
    for _ in 0..walk.dice.below(usize::from(nodes)) {
        let node = walk.pick();
        walk.crash(node)?;
    }
    walk.cluster.unwatched = true;
    walk.cluster.put_back(victim);
    walk.steps(400)?;
    tally.broken += usize::from(difference(&walk.cluster).is_some());
    walk.heal()?;
    tally.stopped += usize::from(!walk.cluster.stopped.is_empty());
    if let Some((slot, a, b)) = difference(&walk.cluster) {
        panic!("walk {seed}: nodes {a} and {b} differ at {slot} and run on");
    }
    Ok(())
}

#[test]
fn an_old_copy_is_never_unnoticed() {
    let mut tally = Tally::default();
    for seed in 0..number("PAXOS_ROLLBACKS").unwrap_or(400) {
        for nodes in [3, 5] {
            walk(nodes, seed, &mut tally)
                .unwrap_or_else(|violation| panic!("walk {seed}: {violation}"));
        }
    }
    println!("{tally:?}");
    assert!(tally.stopped > 50, "{tally:?}");
}
