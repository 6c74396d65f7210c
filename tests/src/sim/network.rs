//! The connections between replicas, and between clients and replicas.
//!
//! A connection between two replicas has a number that grows. While it stands its messages arrive in
//! order, late or not at all; what was under way when it broke may still arrive, with the old number.

use std::collections::{BTreeMap, BTreeSet};

use super::dice::Dice;
use super::plan::Plan;

/// What reaches a client.
#[derive(Debug)]
pub(crate) enum ToClient {
    /// An answer.
    Response(net::Response),
    /// The connection that this attempt went over is gone, or was refused.
    Broken(u64),
}

/// One connection, as the world sees it.
#[derive(Debug, Default)]
struct Link {
    number: u64,
    stands: bool,
    /// When the last message in each direction arrives: lower to higher, higher to lower.
    last_us: [u64; 2],
    /// When each direction has carried all that was given to it.
    free_us: [u64; 2],
}

/// All connections and what they do to messages.
#[derive(Debug)]
pub(crate) struct Network {
    dice: Dice,
    latency_us: (u64, u64),
    slow_permille: u64,
    loss_permille: u64,
    double_permille: u64,
    reorder: bool,
    bytes_per_s: Option<u64>,
    links: BTreeMap<(usize, usize), Link>,
    /// Directions that carry nothing.
    cut: BTreeSet<(usize, usize)>,
}

impl Network {
    /// The network of a plan.
    pub(crate) fn new(plan: &Plan) -> Network {
        Network {
            dice: Dice::new(plan.seed, 2),
            latency_us: plan.latency_us,
            slow_permille: plan.slow_permille,
            loss_permille: plan.loss_permille,
            double_permille: plan.double_permille,
            reorder: plan.reorder,
            bytes_per_s: plan.link_bytes_per_s,
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
        }
    }

    /// No more faults.
    pub(crate) fn heal(&mut self) {
        self.slow_permille = 0;
        self.loss_permille = 0;
        self.double_permille = 0;
        self.reorder = false;
        self.bytes_per_s = None;
        self.cut.clear();
    }

    /// How long something takes to arrive.
    pub(crate) fn latency(&mut self) -> u64 {
        let base = self.dice.between(self.latency_us.0, self.latency_us.1);
        if self.dice.permille(self.slow_permille) {
            base * self.dice.between(10, 100)
        } else {
            base
        }
    }

    /// When each copy of something between a client and a replica arrives.
    pub(crate) fn client_arrivals(&mut self, now_us: u64) -> Vec<u64> {
        if self.dice.permille(self.loss_permille) {
            return Vec::new();
        }
        let mut arrivals = vec![now_us + self.latency()];
        if self.dice.permille(self.double_permille) {
            // A late duplicate may come seconds later.
            let late = self.dice.between(0, 2_000_000);
            arrivals.push(now_us + self.latency() + late);
        }
        arrivals
    }

    /// Whether the length of a message says when it arrives.
    pub(crate) fn is_narrow(&self) -> bool {
        self.bytes_per_s.is_some()
    }

    /// When each copy of a message of `bytes` between two replicas arrives.
    pub(crate) fn peer_arrivals(
        &mut self,
        now_us: u64,
        from: usize,
        to: usize,
        bytes: usize,
    ) -> Vec<u64> {
        let sent_us = self.carried_us(now_us, from, to, bytes);
        if self.cut.contains(&(from, to)) || self.dice.permille(self.loss_permille / 2) {
            return Vec::new();
        }
        let mut arrivals = vec![self.arrival(sent_us, from, to)];
        if self.dice.permille(self.double_permille) {
            arrivals.push(self.arrival(sent_us, from, to));
        }
        arrivals
    }

    /// When a narrow link has taken all bytes of a message, behind what it took before.
    fn carried_us(&mut self, now_us: u64, from: usize, to: usize, bytes: usize) -> u64 {
        let Some(rate) = self.bytes_per_s else {
            return now_us;
        };
        let link = self.links.entry(pair(from, to)).or_default();
        let free = &mut link.free_us[usize::from(from > to)];
        *free = now_us.max(*free) + bytes as u64 * 1_000_000 / rate;
        *free
    }

    fn arrival(&mut self, now_us: u64, from: usize, to: usize) -> u64 {
        let at_us = now_us + self.latency();
        let reorder = self.reorder;
        let link = self.links.entry(pair(from, to)).or_default();
        let last = &mut link.last_us[usize::from(from > to)];
        if reorder {
            return at_us;
        }
        *last = at_us.max(*last);
        *last
    }

    /// Makes a connection if none stands and messages pass: its number, and when each end (lower,
    /// higher) has it.
    pub(crate) fn connect(&mut self, now_us: u64, a: usize, b: usize) -> Option<(u64, u64, u64)> {
        if self.cut.contains(&(a, b)) || self.cut.contains(&(b, a)) {
            return None;
        }
        let (one, other) = (now_us + self.latency(), now_us + self.latency());
        let link = self.links.entry(pair(a, b)).or_default();
        if link.stands {
            return None;
        }
        link.number += 1;
        link.stands = true;
        // Nothing of the new connection arrives before the connection itself.
        link.last_us = [one.max(other); 2];
        link.free_us = [now_us; 2];
        Some((link.number, one, other))
    }

    /// Breaks a connection. Says whether one stood.
    pub(crate) fn disconnect(&mut self, a: usize, b: usize) -> bool {
        let link = self.links.entry(pair(a, b)).or_default();
        std::mem::replace(&mut link.stands, false)
    }

    /// Whether this is the connection that stands.
    pub(crate) fn stands(&self, a: usize, b: usize, number: u64) -> bool {
        self.links
            .get(&pair(a, b))
            .is_some_and(|link| link.stands && link.number == number)
    }

    /// Whether what was sent over a broken connection arrives all the same.
    pub(crate) fn straggles(&mut self) -> bool {
        self.dice.permille(500)
    }

    /// Whether anything passes from one replica to another.
    pub(crate) fn passes(&self, from: usize, to: usize) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// Cuts directions.
    pub(crate) fn cut(&mut self, directions: impl IntoIterator<Item = (usize, usize)>) {
        self.cut.extend(directions);
    }

    /// Mends all of them.
    pub(crate) fn mend(&mut self) {
        self.cut.clear();
    }
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}
