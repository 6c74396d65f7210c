//! Outboxes in a form that reads aloud.

use paxos::message::Held;
use paxos::{Entry, EntryKind, Message, Note, Outbox, Refusal, Slot, WalRecord};

/// What one step wanted, a line each.
pub(crate) fn outbox(out: &Outbox) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(out.notes.iter().map(note));
    for append in &out.wal {
        let records: Vec<_> = append.records.iter().map(record).collect();
        lines.push(format!("wal #{} {}", append.seq.0, records.join(", ")));
    }
    for envelope in &out.sends {
        let to: Vec<_> = envelope.to.iter().map(ToString::to_string).collect();
        lines.push(format!(
            "send {}: {}",
            to.join(","),
            message(&envelope.message)
        ));
    }
    for chosen in &out.chosen {
        let time = if chosen.counts {
            ""
        } else {
            " (its stamp is not believed)"
        };
        let (slot, value, at) = (chosen.slot, entry(&chosen.entry), chosen.time_ms);
        lines.push(format!("chosen {slot} {value} at {at} ms{time}"));
    }
    lines.extend(
        out.placed
            .iter()
            .map(|(id, slot, _)| format!("placed proposal {id} in {slot}")),
    );
    lines.extend(
        out.rejects
            .iter()
            .map(|(id, why)| format!("reject proposal {id}: {why:?}")),
    );
    lines.extend(
        out.reads_ready
            .iter()
            .map(|(id, at)| format!("read {id} ready at {at}")),
    );
    lines.extend(
        out.reads_failed
            .iter()
            .map(|(id, why)| format!("read {id} failed: {why:?}")),
    );
    lines.extend(
        out.load_log
            .iter()
            .map(|l| format!("load log from {} for {}", l.from, l.to)),
    );
    if let Some(release) = out.release_log {
        let (snapshot, needed) = (release.snapshot, release.needed);
        lines.push(format!(
            "release log: snapshot at {snapshot}, {needed} still needed"
        ));
    }
    if let Some(change) = out.role {
        let role = format!("{:?}", change.role).to_lowercase();
        let leader = change
            .leader
            .map_or_else(|| "nobody".into(), |leader| leader.to_string());
        lines.push(format!("is {role} at {}, {leader} leads", change.ballot));
    }
    lines.extend(out.fatal.iter().map(|why| format!("FATAL {why}")));
    lines
}

fn entry(entry: &Entry) -> String {
    match entry.kind() {
        EntryKind::App => format!("'{}'", entry.payload().escape_ascii()),
        kind => format!("{kind:?}({})", entry.birth()),
    }
}

fn entries(first: Slot, of: &[Entry]) -> String {
    let slots = (first.0..)
        .zip(of)
        .map(|(slot, value)| format!("{slot}={}", entry(value)));
    format!("[{}]", slots.collect::<Vec<_>>().join(" "))
}

fn record(record: &WalRecord) -> String {
    match record {
        WalRecord::Promise { ballot } => format!("promise {ballot}"),
        WalRecord::Accept {
            slot,
            ballot,
            entry: value,
        } => {
            format!("accept {slot}={} at {ballot}", entry(value))
        }
        WalRecord::Chosen { slot, entry: value } => format!("chosen {slot}={}", entry(value)),
        WalRecord::SnapshotMark { slot, .. } => format!("snapshot mark {slot}"),
    }
}

fn held(first: Slot, of: &[Held]) -> String {
    let slots = (first.0..).zip(of).map(|(slot, held)| {
        let how = if held.chosen {
            "chosen".into()
        } else {
            format!("at {}", held.ballot)
        };
        let value = held.entry.as_ref().map_or_else(|| "known".into(), entry);
        format!("{slot}={value} {how}")
    });
    format!("[{}]", slots.collect::<Vec<_>>().join(", "))
}

fn message(message: &Message) -> String {
    let name = message.name();
    match message {
        Message::Probe(m) => format!("{name} {} chosen={} last={}", m.would_be, m.chosen, m.last),
        Message::ProbeReply(m) => {
            format!(
                "{name} {} {:?} promised={}",
                m.would_be, m.verdict, m.promised
            )
        }
        Message::Prepare(m) => {
            let have = m.have.iter();
            let have = have.map(|run| format!(" have={}..{} at {}", run.from, run.to, run.ballot));
            format!(
                "{name} {} from={}{}",
                m.ballot,
                m.from,
                have.collect::<String>()
            )
        }
        Message::Promise(m) => {
            let report = held(m.start, &m.held);
            format!(
                "{name} {} chosen={} last={} {report}",
                m.ballot, m.chosen, m.last
            )
        }
        Message::Nack(m) => format!("{name} {} promised={}", m.refused, m.promised),
        Message::Accept(m) => {
            let values = entries(m.prev.next(), &m.entries);
            format!(
                "{name} {} after={} {values} commit={}",
                m.ballot, m.prev, m.commit
            )
        }
        Message::Accepted(m) => {
            format!(
                "{name} {} upto={} received={}",
                m.ballot, m.upto, m.received
            )
        }
        Message::Heartbeat(m) => {
            format!("{name} {} commit={} round={}", m.ballot, m.commit, m.round)
        }
        Message::HeartbeatAck(m) => {
            format!("{name} {} round={} upto={}", m.ballot, m.round, m.upto)
        }
        Message::Resync(m) => format!("{name} {} next={}", m.ballot, m.next),
        Message::FetchChosen(m) => format!("{name} from={}", m.from),
        Message::ChosenChunk(m) => format!("{name} {}", entries(m.start, &m.entries)),
        Message::TransferNow(m) => format!("{name} {} upto={}", m.ballot, m.upto),
        Message::Objection(m) => format!("{name} slot={} with={:?}", m.slot, m.agreeing),
        Message::Witness(m) => {
            let of = |t: &paxos::Testimony| format!("{} {}", t.node, t.memory);
            let all: Vec<String> = m.witness.iter().map(of).collect();
            format!("{name} {}", all.join("; "))
        }
    }
}

fn note(note: &Note) -> String {
    match note {
        Note::ProbeStarted { would_be } => format!("note: probes for {would_be}"),
        Note::ElectionStarted { ballot } => format!("note: stands for {ballot}"),
        Note::Elected { ballot, reproposed } => {
            format!("note: elected at {ballot}, proposes {reproposed} slots again")
        }
        Note::Refused { peer, why } => match why {
            Refusal::Disk { found, expected } => {
                let expected = expected.map_or_else(|| "none".into(), |disk| disk.to_string());
                format!("note: refused node {peer} with disk {found}, expected {expected}")
            }
            Refusal::Life { found, known } => {
                format!("note: refused node {peer} in start {found}, known is {known}")
            }
            Refusal::Copy { known } => {
                format!("note: refused node {peer} as an old copy, known is {known}")
            }
            Refusal::History { slot, .. } => {
                format!("note: refused node {peer}: its history differs at {slot}")
            }
        },
        other => format!("note: {other:?}"),
    }
}
