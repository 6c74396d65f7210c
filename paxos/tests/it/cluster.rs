//! Some cores, a network of loose messages and shadow disks; a test decides what happens next.

use std::collections::{BTreeMap, VecDeque};

use paxos::ghost::{Ghost, Verdict};
use paxos::{
    ClusterId, Config, Core, DiskId, Entry, EntryKind, Identity, Input, Life, LoadLog, Member,
    Membership, Memories, Message, MonoTime, NodeId, Note, Outbox, Proposal, Reject, ReleaseLog,
    Role, Slot, WalAppend, WalRecord,
};

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) link: u64,
    pub(crate) message: Message,
}

/// How the cores are configured; the rest is as by default.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) nodes: u16,
    pub(crate) seed: u64,
    pub(crate) window_bytes: usize,
    pub(crate) tail_bytes: usize,
    pub(crate) prefer_lowest_id: bool,
    /// Timeouts of a microsecond, so that time has no part in the state.
    pub(crate) instant: bool,
}

impl Shape {
    pub(crate) fn of(nodes: u16, seed: u64) -> Shape {
        Shape {
            nodes,
            seed,
            window_bytes: 8 << 20,
            tail_bytes: 8 << 20,
            prefer_lowest_id: false,
            instant: false,
        }
    }
}

pub(crate) fn config(shape: Shape, node: NodeId, life: Life) -> Config {
    let members = (1..=shape.nodes).map(|n| Member {
        node: NodeId(n),
        disk: disk(NodeId(n)),
    });
    let membership = Membership {
        epoch: 1,
        members: members.collect(),
    };
    let identity = Identity {
        cluster: ClusterId(1),
        node,
        disk: disk(node),
    };
    let (heartbeat_us, election_us) = if shape.instant {
        (1, 1)
    } else {
        (50_000, 500_000)
    };
    Config {
        heartbeat_us,
        election_us,
        seed: shape.seed.wrapping_mul(31) + u64::from(node.0) * 1_000_003 + life.incarnation,
        peer_window_bytes: shape.window_bytes,
        chosen_tail_bytes: shape.tail_bytes,
        prefer_lowest_id: shape.prefer_lowest_id,
        life,
        ..Config::new(identity, membership)
    }
}

pub(crate) fn disk(node: NodeId) -> DiskId {
    DiskId(100 + u64::from(node.0))
}

/// A copy of a data folder.
#[derive(Clone, Debug)]
struct Folder {
    disk: paxos::ghost::DiskCopy,
    starts: u64,
    superblock: Memories,
    first: Slot,
}

/// A cluster in the hands of a test.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) shape: Shape,
    pub(crate) now: MonoTime,
    pub(crate) ghost: Ghost,
    pub(crate) cores: BTreeMap<NodeId, Core>,
    pub(crate) flights: Vec<Flight>,
    /// Submitted and not durable.
    pub(crate) unsynced: BTreeMap<NodeId, VecDeque<WalAppend>>,
    pub(crate) links: BTreeMap<(NodeId, NodeId), u64>,
    pub(crate) reads_answered: u64,
    pub(crate) placed: BTreeMap<u64, Slot>,
    pub(crate) rejected: BTreeMap<u64, Reject>,
    starts: BTreeMap<NodeId, u64>,
    /// Starts of all nodes together.
    all_starts: u64,
    /// What the superblock of each node keeps of the others.
    superblocks: BTreeMap<NodeId, Memories>,
    images: BTreeMap<NodeId, Folder>,
    /// The first slot that each node's log still holds, where it was cut. The shadow disk of the ghost keeps
    /// what was cut; nobody reads it there.
    firsts: BTreeMap<NodeId, Slot>,
    /// The last snapshot that each running node was told of.
    snapshots: BTreeMap<NodeId, Slot>,
    /// What each running node last allowed to be cut.
    releases: BTreeMap<NodeId, ReleaseLog>,
    /// How often logs were cut, nodes started with a cut log, and nodes found that they lack what all others cut.
    pub(crate) cuts: u64,
    pub(crate) cut_starts: u64,
    pub(crate) left_behind: u64,
    /// Whether a replica may stop by itself, and which did, and why.
    pub(crate) may_stop: bool,
    pub(crate) stopped: BTreeMap<NodeId, String>,
    /// Agreement is about to be broken from outside, and the replicas have to find that themselves.
    pub(crate) unwatched: bool,
    /// What each node took for chosen, as far as its disk still says so.
    pub(crate) histories: BTreeMap<NodeId, BTreeMap<Slot, Entry>>,
    next_link: u64,
    next_id: u64,
    loads: Vec<(NodeId, LoadLog)>,
    /// What the steps wanted, for scripts; only kept if asked for.
    pub(crate) record: Option<Vec<(NodeId, Outbox)>>,
}

impl Cluster {
    /// All nodes started and connected.
    pub(crate) fn new(shape: Shape) -> Cluster {
        let mut cluster = Cluster::unstarted(shape);
        for node in cluster.nodes() {
            cluster.start(node).expect("an empty disk");
        }
        cluster
    }

    pub(crate) fn unstarted(shape: Shape) -> Cluster {
        Cluster {
            shape,
            now: MonoTime(1_000_000),
            ghost: Ghost::new(usize::from(shape.nodes) / 2 + 1),
            cores: BTreeMap::new(),
            flights: Vec::new(),
            unsynced: BTreeMap::new(),
            links: BTreeMap::new(),
            reads_answered: 0,
            placed: BTreeMap::new(),
            rejected: BTreeMap::new(),
            starts: BTreeMap::new(),
            all_starts: 0,
            superblocks: BTreeMap::new(),
            images: BTreeMap::new(),
            firsts: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            releases: BTreeMap::new(),
            cuts: 0,
            cut_starts: 0,
            left_behind: 0,
            may_stop: false,
            stopped: BTreeMap::new(),
            unwatched: false,
            histories: BTreeMap::new(),
            next_link: 0,
            next_id: 0,
            loads: Vec::new(),
            record: None,
        }
    }

    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        (1..=self.shape.nodes).map(NodeId).collect()
    }

    /// Starts a node with what its disk holds and connects it to everyone who is up.
    pub(crate) fn start(&mut self, node: NodeId) -> Verdict {
        let mut recovered = self.ghost.recover(node);
        recovered.first = self.first(node);
        self.cut_starts += u64::from(recovered.first > Slot(1));
        let replayed = (1..=recovered.chosen.0).map(Slot);
        let replayed = replayed.filter_map(|slot| Some((slot, self.ghost.stored(node, slot)?.1)));
        self.histories.insert(node, replayed.collect());
        let verdict = self.ghost.started(node, &recovered);
        self.judge(verdict)?;
        let starts = self.starts.entry(node).or_default();
        *starts += 1;
        self.all_starts += 1;
        let life = Life {
            incarnation: *starts,
            start: self.all_starts,
        };
        recovered.memories = self.superblocks.get(&node).cloned().unwrap_or_default();
        if let Some(condemned) = &recovered.memories.condemned {
            self.stopped.insert(node, condemned.to_string());
            return Ok(());
        }
        let core = Core::new(config(self.shape, node, life), recovered, self.now);
        self.cores.insert(node, core);
        self.unsynced.insert(node, VecDeque::new());
        for other in self.nodes() {
            if other != node && self.cores.contains_key(&other) {
                self.connect(node, other)?;
            }
        }
        Ok(())
    }

    pub(crate) fn connect(&mut self, a: NodeId, b: NodeId) -> Verdict {
        self.next_link += 1;
        let link = self.next_link;
        self.links.insert((a.min(b), a.max(b)), link);
        for (at, of) in [(a, b), (b, a)] {
            let Some(hello) = self.cores.get(&of).map(Core::hello) else {
                continue;
            };
            self.step(
                at,
                Input::PeerUp {
                    peer: of,
                    link,
                    hello,
                },
            )?;
        }
        Ok(())
    }

    pub(crate) fn disconnect(&mut self, a: NodeId, b: NodeId, reset: bool) -> Verdict {
        let Some(link) = self.links.remove(&(a.min(b), a.max(b))) else {
            return Ok(());
        };
        for (at, of) in [(a, b), (b, a)] {
            if self.cores.contains_key(&at) {
                self.step(
                    at,
                    Input::PeerDown {
                        peer: of,
                        link,
                        reset,
                    },
                )?;
            }
        }
        Ok(())
    }

    /// The process dies; of what was on its way to the disk the first `kept` submissions arrived.
    pub(crate) fn crash(&mut self, node: NodeId, kept: usize) -> Verdict {
        if std::env::var_os("PAXOS_TRACE").is_some() {
            println!(
                "{} node {node} crashes, {kept} submissions kept",
                self.now.0
            );
        }
        self.cores.remove(&node);
        self.snapshots.remove(&node);
        self.releases.remove(&node);
        let unsynced = self.unsynced.remove(&node).unwrap_or_default();
        if let Some(append) = kept.checked_sub(1).and_then(|last| unsynced.get(last)) {
            self.ghost.durable(node, append.seq)?;
        }
        self.ghost.crashed(node);
        for other in self.nodes() {
            self.disconnect(node, other, true)?;
        }
        Ok(())
    }

    /// Copies the folder of `node` as it is on disk.
    pub(crate) fn copy_folder(&mut self, node: NodeId) {
        let folder = Folder {
            disk: self.ghost.copy_disk(node),
            starts: self.starts.get(&node).copied().unwrap_or_default(),
            superblock: self.superblocks.get(&node).cloned().unwrap_or_default(),
            first: self.first(node),
        };
        self.images.insert(node, folder);
    }

    /// Puts the copy back in place of what a dead `node` had.
    pub(crate) fn put_back(&mut self, node: NodeId) {
        assert!(!self.cores.contains_key(&node), "it runs");
        let folder = self.images[&node].clone();
        self.ghost.put_back(node, folder.disk);
        self.starts.insert(node, folder.starts);
        self.superblocks.insert(node, folder.superblock);
        self.firsts.insert(node, folder.first);
    }

    /// The first slot that the log of `node` still holds.
    fn first(&self, node: NodeId) -> Slot {
        self.firsts.get(&node).copied().unwrap_or(Slot(1))
    }

    /// `node` saves a snapshot of all that its core handed out; its mark goes to the log.
    pub(crate) fn snapshot(&mut self, node: NodeId) -> Verdict {
        let last = self.histories.get(&node).and_then(BTreeMap::last_key_value);
        let Some((&slot, _)) = last.filter(|_| self.cores.contains_key(&node)) else {
            return Ok(());
        };
        if self.snapshots.insert(node, slot) == Some(slot) {
            return Ok(());
        }
        let meta = Vec::new().into();
        self.step(node, Input::SnapshotSaved { slot, meta })
    }

    /// `node` cuts its log as far as its core allows: to what other members lack, or, if the log has reached
    /// its cap, to its snapshot.
    pub(crate) fn cut(&mut self, node: NodeId, at_cap: bool) -> Verdict {
        let Some(release) = self.releases.get(&node) else {
            return Ok(());
        };
        let behind_snapshot = release.snapshot.next();
        let first = if at_cap {
            behind_snapshot
        } else {
            behind_snapshot.min(release.needed)
        };
        if first <= self.first(node) {
            return Ok(());
        }
        self.cuts += 1;
        self.firsts.insert(node, first);
        self.step(node, Input::LogTrimmed { first })
    }

    /// The disk of `node` finishes its oldest `count` submissions.
    pub(crate) fn sync(&mut self, node: NodeId, count: usize) -> Verdict {
        let Some(unsynced) = self.unsynced.get_mut(&node) else {
            return Ok(());
        };
        let count = count.min(unsynced.len());
        let Some(last) = count.checked_sub(1) else {
            return Ok(());
        };
        let seq = unsynced[last].seq;
        unsynced.drain(..count);
        let verdict = self.ghost.durable(node, seq);
        self.judge(verdict)?;
        self.step(node, Input::WalDurable { seq })
    }

    /// Whether anything on its way to the disk of `node` promises a ballot, which the superblocks
    /// must say too.
    pub(crate) fn promises_wait(&self, node: NodeId) -> bool {
        let waiting = self.unsynced.get(&node).into_iter().flatten();
        waiting
            .flat_map(|append| &append.records)
            .any(|record| matches!(record, WalRecord::Promise { .. }))
    }

    pub(crate) fn deliver(&mut self, flight: Flight) -> Verdict {
        let Flight {
            from,
            to,
            link,
            message,
        } = flight;
        // What travels has a wire form that reads back the same.
        assert_eq!(Message::decode(message.encode()).as_ref(), Ok(&message));
        self.step(
            to,
            Input::Recv {
                from,
                link,
                message,
            },
        )
    }

    pub(crate) fn tick(&mut self, node: NodeId) -> Verdict {
        self.step(node, Input::Tick)
    }

    pub(crate) fn propose(&mut self, node: NodeId, payload: &[u8]) -> Verdict {
        self.next_id += 1;
        let payload = payload.to_vec().into();
        let proposal = Proposal {
            id: self.next_id,
            kind: EntryKind::App,
            payload,
        };
        self.step(
            node,
            Input::Propose {
                proposals: vec![proposal],
                wall_ms: 0,
            },
        )
    }

    pub(crate) fn read(&mut self, node: NodeId) -> Verdict {
        self.next_id += 1;
        self.ghost.read_asked(self.next_id);
        self.step(node, Input::Read { id: self.next_id })
    }

    /// One step of one core; whatever it wants done is queued here.
    pub(crate) fn step(&mut self, node: NodeId, input: Input) -> Verdict {
        let Some(core) = self.cores.get_mut(&node) else {
            return Ok(());
        };
        let mut out = Outbox::default();
        let trace = std::env::var_os("PAXOS_TRACE").is_some();
        if trace {
            println!("{} node {node} <- {input:?}", self.now.0);
        }
        core.step(self.now, input, &mut out);
        if trace {
            println!("        -> {out:?}");
        }
        let verdict = self.ghost.stepped(core, &out);
        self.judge(verdict)?;
        assert!(
            self.may_stop || out.fatal.is_none(),
            "node {node}: {:?}",
            out.fatal
        );
        self.take(node, &out);
        let (remember, fatal) = (out.remember.clone(), out.fatal.clone());
        if let Some(record) = &mut self.record {
            record.push((node, out));
        }
        if let Some(why) = fatal {
            self.stopped.insert(node, why);
            return self.crash(node, 0);
        }
        if let Some(remember) = remember {
            let number = remember.number;
            return self.step(node, Input::Remembered { number });
        }
        while let Some((at, load)) = self.loads.pop() {
            self.load(at, load)?;
        }
        Ok(())
    }

    fn take(&mut self, node: NodeId, out: &Outbox) {
        for envelope in &out.sends {
            for &to in &envelope.to {
                let link = self.links.get(&(node.min(to), node.max(to)));
                if let Some(&link) = link {
                    let message = envelope.message.clone();
                    self.flights.push(Flight {
                        from: node,
                        to,
                        link,
                        message,
                    });
                }
            }
        }
        let memories = out.remember_later.iter();
        let memories = memories.chain(out.remember.iter().map(|remember| &remember.memories));
        if let Some(memories) = memories.last() {
            self.superblocks.insert(node, memories.clone());
        }
        self.unsynced
            .entry(node)
            .or_default()
            .extend(out.wal.iter().cloned());
        if let Some(release) = out.release_log {
            self.releases.insert(node, release);
        }
        let behind = |note: &&Note| matches!(note, Note::FellBehind { .. });
        self.left_behind += out.notes.iter().filter(behind).count() as u64;
        self.loads
            .extend(out.load_log.iter().map(|load| (node, *load)));
        let history = self.histories.entry(node).or_default();
        history.extend(
            out.chosen
                .iter()
                .map(|chosen| (chosen.slot, chosen.entry.clone())),
        );
        self.reads_answered += out.reads_ready.len() as u64;
        self.placed
            .extend(out.placed.iter().map(|&(id, slot, _)| (id, slot)));
        self.rejected.extend(out.rejects.iter().copied());
    }

    fn load(&mut self, node: NodeId, load: LoadLog) -> Verdict {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let held = self.first(node);
        for slot in (load.from.0..=load.upto.0).map(Slot) {
            let stored = self.ghost.stored(node, slot);
            let Some((ballot, entry)) = stored.filter(|_| slot >= held) else {
                break;
            };
            bytes += entry.size_bytes();
            if !entries.is_empty() && bytes > load.max_bytes {
                break;
            }
            entries.push((slot, ballot, entry, false));
        }
        let first = if entries.is_empty() { held } else { load.from };
        self.step(
            node,
            Input::LogLoaded {
                to: load.to,
                first,
                entries,
            },
        )
    }

    fn judge(&self, verdict: Verdict) -> Verdict {
        if self.unwatched { Ok(()) } else { verdict }
    }

    pub(crate) fn leaders(&self) -> Vec<NodeId> {
        let leads = |(&node, core): (&NodeId, &Core)| (core.role() == Role::Leader).then_some(node);
        self.cores.iter().filter_map(leads).collect()
    }

    /// Everything on its way arrives and every disk finishes, until nothing is left to do.
    pub(crate) fn settle(&mut self) -> Verdict {
        for _ in 0..10_000 {
            if self.flights.is_empty() && self.unsynced.values().all(VecDeque::is_empty) {
                return Ok(());
            }
            for flight in std::mem::take(&mut self.flights) {
                self.deliver(flight)?;
            }
            for node in self.nodes() {
                self.sync(node, usize::MAX)?;
            }
        }
        panic!("never quiet");
    }

    /// Time passes until the next timer of `node`, which fires.
    pub(crate) fn wake(&mut self, node: NodeId) -> Verdict {
        if let Some(core) = self.cores.get(&node) {
            self.now = self.now.max(core.next_wake());
        }
        self.tick(node)
    }
}
