//! How what happened is told: one line for each event and answer.

use std::fmt::Write;

use statemachine::{
    Answer, Effects, Event, Fate, FileFact, LockLine, LostWhy, Outcome, ReplyTo, SessionFact,
    SessionId,
};

use crate::client::Client;
use crate::line::seconds;

/// What a slot brought about.
pub(crate) fn tell(clients: &[Client], effects: &Effects) -> Vec<String> {
    let mut told: Vec<String> = effects
        .events
        .iter()
        .filter_map(|event| tell_event(clients, event))
        .collect();
    for reply in &effects.replies {
        let to = match reply.to {
            ReplyTo::Nonce(nonce) => clients[usize::try_from(nonce).expect("a small nonce")]
                .name
                .clone(),
            ReplyTo::Beats => "all".to_owned(),
            ReplyTo::Command(session, seq) => format!("{}#{seq}", name(clients, session)),
            ReplyTo::Settle(token) => format!("token {token}"),
        };
        let pushed = if reply.counts_for_time {
            ""
        } else {
            " (pushed)"
        };
        told.push(format!(
            "{to}{pushed}: {}",
            tell_outcome(clients, &reply.outcome)
        ));
    }
    told
}

fn tell_event(clients: &[Client], event: &Event) -> Option<String> {
    Some(match event {
        Event::SessionExpired { session, deadline } => {
            format!(
                "* {}'s session expired, due at {}",
                name(clients, *session),
                seconds(deadline.0)
            )
        }
        Event::Lost {
            lock,
            session,
            token,
            why,
            held_ms,
            discarded_appends,
        } => {
            let who = name(clients, *session);
            let held = seconds(*held_ms);
            let why = match why {
                LostWhy::Forced { by, reason } => {
                    format!("forced by {}, {reason}", name(clients, *by))
                }
                other => format!("{other:?}"),
            };
            let mut told = format!("* {lock} lost by {who}, token {token}, after {held}: {why}");
            if *discarded_appends > 0 {
                write!(told, ", {discarded_appends} appends discarded").expect("to a string");
            }
            told
        }
        Event::LeftQueue {
            lock,
            session,
            seq,
            why,
            ..
        } => {
            format!(
                "* {}#{seq} left the queue of {lock}: {why:?}",
                name(clients, *session)
            )
        }
        Event::DedupHit { session, seq, .. } => {
            format!("* {}#{seq} came before", name(clients, *session))
        }
        Event::LeaderStarted { grace_ms } => {
            format!(
                "* a new leader: all who live have {} left",
                seconds(*grace_ms)
            )
        }
        Event::Settings { adopted } => {
            format!("* settings {}", if *adopted { "agreed" } else { "ignored" })
        }
        _ => return None,
    })
}

fn tell_outcome(clients: &[Client], outcome: &Outcome) -> String {
    match outcome {
        Outcome::Opened {
            ttl_ms, deadline, ..
        } => {
            format!(
                "opened, ttl {}, until {}",
                seconds(*ttl_ms),
                seconds(deadline.0)
            )
        }
        Outcome::Granted {
            token, deadline, ..
        } => {
            format!("granted, token {token}, until {}", seconds(deadline.0))
        }
        Outcome::Renewed { deadline } => format!("renewed until {}", seconds(deadline.0)),
        Outcome::Appended {
            pending_bytes,
            deadline,
        } => {
            format!(
                "appended, {pending_bytes} bytes pending, until {}",
                seconds(deadline.0)
            )
        }
        Outcome::Released { lengths, .. } => format!("released {}", tell_lengths(lengths))
            .trim_end()
            .to_owned(),
        Outcome::Settled { fate } => match fate {
            Fate::Done { slot, lengths } => {
                let lengths = lengths.as_deref().map(tell_lengths);
                let lengths = lengths.unwrap_or_else(|| "lengths not kept".to_owned());
                format!("done in slot {slot}, {lengths}")
            }
            Fate::Never => "never".to_owned(),
            Fate::Unknown => "unknown".to_owned(),
        },
        Outcome::Created { guard, .. } => format!("created, guarded by {guard}"),
        Outcome::Refused(refusal) => {
            format!("{} (rc {}): {refusal}", refusal.code(), refusal.rc())
        }
        Outcome::Alive { beats } => {
            let told: Vec<_> = beats
                .iter()
                .map(|beat| {
                    let who = name(clients, beat.session);
                    let Ok(state) = &beat.result else {
                        return format!("{who} expired");
                    };
                    let mut told = format!("{who} until {}", seconds(state.deadline.0));
                    for lock in &state.locks {
                        let until = lock.deadline.map(|d| seconds(d.0));
                        let until = until.unwrap_or_else(|| "not held".to_owned());
                        write!(told, ", {} {until}", lock.lock).expect("to a string");
                    }
                    told
                })
                .collect();
            told.join("; ")
        }
        Outcome::Cancelled { given_back: true } => "cancelled, given back".to_owned(),
        Outcome::Cancelled { given_back: false } => "cancelled".to_owned(),
        Outcome::Closed => "closed".to_owned(),
        Outcome::Aborted => "aborted".to_owned(),
        Outcome::Removed => "removed".to_owned(),
        Outcome::ForceReleased => "released by force".to_owned(),
    }
}

fn tell_lengths(lengths: &[(String, u64)]) -> String {
    let lengths: Vec<_> = lengths
        .iter()
        .map(|(n, l)| format!("{n} has {l}"))
        .collect();
    lengths.join(", ")
}

/// What is to be seen.
pub(crate) fn answer(answer: &Answer) -> Vec<String> {
    let told = match answer {
        Answer::Lock(status) => {
            let mut told = vec![match &status.holder {
                None => format!("{} is free", status.lock),
                Some(h) => format!(
                    "{} is held by {}, token {}, {} left, {} bytes pending",
                    status.lock,
                    h.name,
                    h.token,
                    seconds(h.left_ms),
                    h.pending_bytes
                ),
            }];
            told.extend(
                status
                    .queue
                    .iter()
                    .map(|w| format!("{}. {}#{}", w.position, w.name, w.seq)),
            );
            told
        }
        Answer::Locks(page) => {
            let line = |l: &LockLine| format!("{} {}", l.lock, l.holder.name);
            page.items.iter().map(line).collect()
        }
        Answer::Sessions(page) => {
            let line = |s: &SessionFact| {
                format!(
                    "{} {} left, holds {}, waits for {}",
                    s.name,
                    seconds(s.left_ms),
                    s.held,
                    s.waiting
                )
            };
            page.items.iter().map(line).collect()
        }
        Answer::Files(page) => {
            let line = |f: &FileFact| {
                format!(
                    "{} {} {} bytes, guarded by {}",
                    f.id, f.name, f.length, f.guard
                )
            };
            page.items.iter().map(line).collect()
        }
        Answer::Token { current } => vec![if *current { "current" } else { "stale" }.to_owned()],
        other => vec![format!("{other:?}")],
    };
    let told = if told.is_empty() {
        vec!["none".to_owned()]
    } else {
        told
    };
    told.iter().map(|line| format!("   {line}")).collect()
}

/// The name of a client, by its session.
pub(crate) fn name(clients: &[Client], session: SessionId) -> String {
    let found = clients.iter().find(|client| client.session == session);
    found.map_or_else(
        || format!("session {session}"),
        |client| client.name.clone(),
    )
}
