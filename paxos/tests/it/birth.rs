//! Golden scripts of a cluster's birth, in `testscripts/birth/`; and all orders of a small one.
//!
//! | command | does |
//! |---|---|
//! | `start N disk=D list=1,2,3` | a fresh replica, with what its `--peers` names |
//! | `deliver [A>B]` | announcements on their way arrive |
//! | `drop [A>B]` | they are lost |
//! | `connect A B` | both announce themselves to each other |
//! | `wipe N disk=D list=…` | N starts again with an empty disk |
//! | `restart N` | N starts again with what it stored |

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use paxos::birth::{Announcement, Birth, BirthAction, BirthRecord};
use paxos::{DiskId, NodeId};

#[derive(Clone, Default)]
struct Nursery {
    births: BTreeMap<NodeId, Birth>,
    stored: BTreeMap<NodeId, (DiskId, BirthRecord)>,
    flights: Vec<(NodeId, NodeId, Announcement)>,
    refused: usize,
    next_cluster: u128,
}

impl Nursery {
    fn start(&mut self, node: NodeId, disk: DiskId, list: Vec<NodeId>) -> String {
        let mut birth = Birth::new(node, disk, list, "demo".into());
        self.next_cluster += 0xc1;
        let actions = birth.begin(self.next_cluster);
        self.births.insert(node, birth);
        self.stored.remove(&node);
        self.flights
            .retain(|(from, to, _)| *from != node && *to != node);
        self.act(node, disk, actions)
    }

    fn hear(&mut self, from: NodeId, to: NodeId, announcement: Announcement) -> String {
        self.next_cluster += 0xc1;
        let random = self.next_cluster;
        let Some(birth) = self.births.get_mut(&to) else {
            return String::new();
        };
        let disk = birth.announcement().disk;
        let actions = birth.on_heard(from, announcement, random);
        self.act(to, disk, actions)
    }

    fn act(&mut self, node: NodeId, disk: DiskId, actions: Vec<BirthAction>) -> String {
        let mut text = String::new();
        for action in actions {
            match action {
                BirthAction::Store(record) => {
                    let members: Vec<_> = record
                        .members
                        .iter()
                        .map(|(n, d)| format!("{n}/{:x}", d.0))
                        .collect();
                    let (cluster, members) = (record.cluster, members.join(" "));
                    writeln!(text, "{node}: born into {cluster:x}: {members}").expect("string");
                    self.stored.insert(node, (disk, record));
                }
                BirthAction::Announce(to) => {
                    let Some(birth) = self.births.get(&node) else {
                        continue;
                    };
                    let announcement = birth.announcement();
                    let state = if announcement.born.is_some() {
                        "born"
                    } else {
                        "fresh"
                    };
                    writeln!(text, "{node}: tells {to} that it is {state}").expect("string");
                    self.flights.push((node, to, announcement));
                }
                BirthAction::Refuse(why) => {
                    self.refused += 1;
                    self.births.remove(&node);
                    writeln!(text, "{node}: STOPS: {why}").expect("string");
                }
                BirthAction::RefusePeer { peer, reason } => {
                    self.refused += 1;
                    writeln!(text, "{node}: refuses {peer}: {reason}").expect("string");
                }
            }
        }
        text
    }

    fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let node = |at: usize| NodeId(words[at].parse().expect("a node"));
        match words[0] {
            "start" | "wipe" => self.start(node(1), disk(words[2]), list(words[3])),
            "restart" => {
                let (disk, record) = self.stored[&node(1)].clone();
                self.births
                    .insert(node(1), Birth::resume(node(1), disk, record));
                String::new()
            }
            "connect" => {
                let both = [(node(1), node(2)), (node(2), node(1))];
                let told = both.map(|(a, b)| (a, b, self.births[&a].announcement()));
                told.into_iter()
                    .map(|(a, b, said)| self.hear(a, b, said))
                    .collect()
            }
            "deliver" | "drop" => {
                let pair = words.get(1).map(|pair| pair.split_once('>').expect("A>B"));
                let flights = std::mem::take(&mut self.flights);
                let (taken, left): (Vec<_>, Vec<_>) =
                    flights.into_iter().partition(|(from, to, _)| {
                        pair.is_none_or(|(a, b)| (a, b) == (&*from.to_string(), &*to.to_string()))
                    });
                self.flights = left;
                if words[0] == "drop" {
                    return format!("lost: {}\n", taken.len());
                }
                taken
                    .into_iter()
                    .map(|(from, to, said)| self.hear(from, to, said))
                    .collect()
            }
            other => panic!("unknown command {other}"),
        }
    }
}

fn disk(word: &str) -> DiskId {
    let hex = word.strip_prefix("disk=").expect("disk=");
    DiskId(u64::from_str_radix(hex, 16).expect("a hex number"))
}

fn list(word: &str) -> Vec<NodeId> {
    let names = word.strip_prefix("list=").expect("list=").split(',');
    names
        .map(|name| NodeId(name.parse().expect("a node")))
        .collect()
}

#[test]
fn scripts() {
    crate::golden::run_folder(Path::new("testscripts/birth"), || {
        let mut nursery = Nursery::default();
        move |line: &str| nursery.run(line)
    });
}

/// B1: whatever is lost, in whatever order, whoever is wiped once: never two clusters.
#[test]
fn every_order_founds_one_cluster() {
    let mut nursery = Nursery::default();
    for n in 1..=3 {
        nursery.start(
            NodeId(n),
            DiskId(n.into()),
            vec![NodeId(1), NodeId(2), NodeId(3)],
        );
    }
    let mut visited = 0;
    explore(&nursery, 7, true, &mut visited);
    assert!(visited > 10_000, "{visited}");
}

fn explore(nursery: &Nursery, depth: usize, may_wipe: bool, visited: &mut usize) {
    *visited += 1;
    // A disk that is gone does not count: wiping the only born one may found another cluster.
    let clusters: std::collections::BTreeSet<u128> = nursery
        .stored
        .values()
        .map(|(_, record)| record.cluster)
        .collect();
    assert!(clusters.len() <= 1, "two clusters: {clusters:?}");
    if depth == 0 {
        return;
    }
    for at in 0..nursery.flights.len() {
        let mut next = nursery.clone();
        let (from, to, said) = next.flights.remove(at);
        next.hear(from, to, said);
        explore(&next, depth - 1, may_wipe, visited);
    }
    if may_wipe {
        for node in [1, 2, 3].map(NodeId) {
            let mut next = nursery.clone();
            next.start(node, DiskId(99), vec![NodeId(1), NodeId(2), NodeId(3)]);
            explore(&next, depth - 1, false, visited);
        }
    }
}
