//! A replica's folder is copied, and a second process is started on the copy while the first one runs.
//!
//! Both began their start from the same folder, so both have one incarnation; only the random number of the start tells
//! them apart. The peers know the original's start by then: they refuse the twin, no vote of it counts, it stops, and the
//! note of it in its folder stops every later start. The checks of votes never hear of the twin, so a value that is
//! chosen with its help fails them.
//!
//! As on a real network, a connection of the twin takes the place of the original's.

use std::collections::BTreeMap;

use paxos::{NodeId, PeerHello};
use replica::engine::{self, Input as EngineInput};
use replica::{Done, Input, Job, Output, Stop, records};

use super::World;
use crate::sim::check::{Verdict, Violation, ensure};
use crate::sim::event::{Event, TwinEvent};
use crate::sim::plan::{MS, SECOND};
use crate::sim::replica::{self as replicas, Replica};

/// The original's start is known to all peers, on their disks too, once it has run undisturbed for so long.
const KNOWN_AFTER_US: u64 = 2 * SECOND;

/// The one twin of a run.
#[derive(Debug)]
pub(super) struct Twin {
    /// Whose folder it runs on a copy of. Its process is no part of the cluster.
    replica: Replica,
    /// Its connections, by peer.
    links: BTreeMap<usize, u64>,
}

impl World {
    pub(super) fn plan_twin(&mut self) {
        if self.plan.twin.is_some() {
            let at_us = self.now_us + SECOND / 2 + self.plan.election_us;
            self.agenda.add(at_us, Event::Twin(TwinEvent::Copy));
        }
    }

    pub(super) fn on_twin_event(&mut self, event: TwinEvent) -> Verdict {
        let Some(original) = self.plan.twin else {
            return Ok(());
        };
        match event {
            TwinEvent::Copy => self.copy_for_twin(original),
            TwinEvent::Start => return self.start_twin(original),
            TwinEvent::Input(input) => return self.run_twin(original, input.map(|input| *input)),
            TwinEvent::Check => {
                return ensure(self.twin.is_none(), "doubling", || {
                    format!(
                        "a second process runs on a copy of replica {original}'s folder: {}",
                        self.describe()
                    )
                });
            }
        }
        Ok(())
    }

    /// The folder is copied between two starts of its replica.
    fn copy_for_twin(&mut self, original: usize) {
        if self.replicas[original].process.is_none() || self.healed {
            return;
        }
        self.crash(original, false);
        let mut twin = Replica::new(
            original,
            self.replicas[original].clock,
            replicas::config(original, &self.plan),
            self.plan.log_cap_bytes,
        );
        twin.disk = self.replicas[original].disk.fork();
        twin.disk.kill();
        self.twin = Some(Twin {
            replica: twin,
            links: BTreeMap::new(),
        });
        // The original has started again by then.
        let at_us = self.now_us + 2 * SECOND + KNOWN_AFTER_US;
        self.agenda.add(at_us, Event::Twin(TwinEvent::Start));
    }

    fn start_twin(&mut self, original: usize) -> Verdict {
        let Some(mut twin) = self.twin.take() else {
            return Ok(());
        };
        twin.replica
            .start(self.now_us)
            .map_err(|refusal| Violation {
                check: "doubling",
                detail: format!("a copy of replica {original}'s folder is refused: {refusal}"),
            })?;
        self.marks.hit("twin started");
        self.trace.line(
            self.now_us,
            format_args!("r{original} has a twin on a copy of its folder"),
        );
        let hello = hello_of(&twin.replica);
        for peer in 0..self.replicas.len() {
            if peer == original || self.replicas[peer].process.is_none() {
                continue;
            }
            if self.network.disconnect(original, peer) {
                self.tell_down(peer, original, false);
                self.tell_down(original, peer, false);
            }
            let (low, high) = (original.min(peer), original.max(peer));
            let Some((link, at_low, at_high)) = self.network.connect(self.now_us, low, high) else {
                continue;
            };
            let (at_peer, at_twin) = if peer == low {
                (at_low, at_high)
            } else {
                (at_high, at_low)
            };
            twin.links.insert(peer, link);
            let process = self.replicas[peer].process.as_mut().expect("it runs");
            process.links.insert(original, link);
            let to_twin = EngineInput::PeerUp {
                peer: NodeId(peer as u16 + 1),
                link,
                hello: hello_of(&self.replicas[peer]),
            };
            let input = Some(Box::new(to_twin.into()));
            self.agenda
                .add(at_twin, Event::Twin(TwinEvent::Input(input)));
            let to_peer = EngineInput::PeerUp {
                peer: NodeId(original as u16 + 1),
                link,
                hello: hello.clone(),
            };
            let life = self.replicas[peer].life;
            self.agenda.add(
                at_peer,
                Event::Deliver {
                    replica: peer,
                    life,
                    input: to_peer.into(),
                },
            );
        }
        self.twin = Some(twin);
        let at_us = self.now_us + 4 * self.plan.election_us + 500 * MS;
        self.agenda.add(at_us, Event::Twin(TwinEvent::Check));
        Ok(())
    }

    /// Whether messages over this connection are for the twin and not for the original.
    pub(super) fn is_for_twin(&self, from: usize, to: usize, link: u64) -> bool {
        let twin = self.twin.as_ref();
        self.plan.twin == Some(to) && twin.is_some_and(|twin| twin.links.get(&from) == Some(&link))
    }

    /// One turn of the twin: its disk takes no time, and nobody asks it anything.
    fn run_twin(&mut self, original: usize, input: Option<Input>) -> Verdict {
        let Some(mut twin) = self.twin.take() else {
            return Ok(());
        };
        let now = twin.replica.now(self.now_us);
        let Some(process) = twin.replica.process.as_mut() else {
            return Ok(());
        };
        let mut inputs: Vec<Input> = input.into_iter().collect();
        inputs.push(engine::Input::Tick.into());
        let mut out = Output::default();
        while !inputs.is_empty() {
            for input in inputs.drain(..) {
                process.replica.handle(now, input, &mut out);
            }
            process.replica.finish(now, &mut out);
            let group = std::mem::take(&mut out.wal);
            if let Some(seq) = group.last().map(|append| append.seq) {
                process.commit(group).map_err(|error| failed(&error))?;
                inputs.push(engine::Input::Durable { seq }.into());
            }
            if let Some(remember) = out.remember.take() {
                let kept = process.writer.note_peers(remember.memories.encode());
                kept.map_err(|error| failed(&error))?;
                let number = remember.number;
                inputs.push(engine::Input::Remembered { number }.into());
            }
            for job in out.jobs.drain(..) {
                match job {
                    Job::File(job) => {
                        inputs.push(Input::Done(Done::File(Box::new(job.run()))));
                    }
                    Job::Load(wanted) => {
                        let loaded = records::load(&process.writer.reader(), wanted);
                        inputs.push(loaded.map_err(|error| failed(&error))?.into());
                    }
                    _ => {}
                }
            }
            if out.stop.is_some() {
                break;
            }
        }
        let wake = process.replica.next_wake().0;
        let at_us = twin.replica.clock.real(wake as i64).max(self.now_us + MS);
        for envelope in std::mem::take(&mut out.sends) {
            for peer in &envelope.to {
                let to = usize::from(peer.0) - 1;
                if let Some(&link) = twin.links.get(&to) {
                    let at_us = self.now_us + self.network.latency();
                    self.agenda.add(
                        at_us,
                        Event::Message {
                            from: original,
                            to,
                            link,
                            message: envelope.message.clone(),
                        },
                    );
                }
            }
        }
        match out.stop {
            Some(Stop::Damaged(why)) => self.end_twin(original, twin, &why),
            Some(Stop::WriteFailed(why)) => ensure(false, "doubling", || why),
            None => {
                self.twin = Some(twin);
                self.agenda.add(at_us, Event::Twin(TwinEvent::Input(None)));
                Ok(())
            }
        }
    }

    /// The twin has stopped. Its folder must say why at the next start.
    fn end_twin(&mut self, original: usize, mut twin: Twin, why: &str) -> Verdict {
        self.marks.hit("twin refused");
        self.trace
            .line(self.now_us, format_args!("r{original}'s twin stops: {why}"));
        for &peer in twin.links.keys() {
            if self.network.disconnect(original, peer) {
                self.tell_down(peer, original, true);
            }
        }
        twin.replica.process = None;
        twin.replica.disk.kill();
        let again = twin.replica.start(self.now_us).err();
        ensure(
            again.as_ref().is_some_and(|refusal| refusal.exit == 5),
            "doubling",
            || format!("replica {original}'s twin was refused and starts again: {again:?}"),
        )
    }
}

fn hello_of(replica: &Replica) -> PeerHello {
    let process = replica.process.as_ref().expect("it runs");
    process.replica.engine().core().hello()
}

fn failed(error: &dyn std::fmt::Display) -> Violation {
    Violation {
        check: "doubling",
        detail: format!("the twin's disk failed: {error}"),
    }
}
