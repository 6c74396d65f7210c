//! Signs of life: they keep a session and renew its leases, in the background or by hand.

use std::ops::ControlFlow;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::join_all;
use statemachine::{Beat, Command, Outcome, Refusal, Token};
use tokio::sync::watch;

use crate::Error;
use crate::clock::{BootTime, sleep_until};
use crate::raw::call::ask_once;
use crate::raw::hold::{HoldState, LostWhy};
use crate::raw::pace::Pace;
use crate::raw::session::Inner;

/// After a beat that found nobody.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes of leases in one request. The service takes up to 3 MiB and gathers up to 1 MiB into one entry;
/// smaller ones share their way with other commands more evenly.
const LEASES_BYTES_MAX: usize = 256 << 10;
/// Bytes of a lease beside its lock's name.
const LEASE_BYTES: usize = 16;

/// Keeps a session alive until it ends or nobody has it any more.
pub(crate) async fn run(session: Weak<Inner>, mut changed: watch::Receiver<()>) {
    loop {
        let Some(strong) = session.upgrade().filter(|it| !it.is_over()) else {
            return;
        };
        let beats = strong.beats();
        let wake = next_beat(&strong);
        drop(strong);
        if beats && wake <= BootTime::now() {
            if let Some(beating) = beat(&session)
                && beating.await.is_err()
            {
                tokio::time::sleep(PAUSE).await;
            }
        } else if wait(wake, beats, &mut changed).await.is_break() {
            return;
        }
    }
}

/// Tells once of each lock whose deadline passes unheard.
pub(crate) async fn watch(session: Weak<Inner>, mut changed: watch::Receiver<()>) {
    loop {
        let Some(strong) = session.upgrade().filter(|it| !it.is_over()) else {
            return;
        };
        let next = next_deadline(&strong);
        drop(strong);
        if wait(next.unwrap_or_default(), next.is_some(), &mut changed)
            .await
            .is_break()
        {
            return;
        }
    }
}

/// Until then, if there is such a time, or until something changes; break if nothing ever will.
async fn wait(wake: BootTime, timed: bool, changed: &mut watch::Receiver<()>) -> ControlFlow<()> {
    tokio::select! {
        () = sleep_until(wake), if timed => ControlFlow::Continue(()),
        changed = changed.changed() => match changed {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        },
    }
}

/// One beat that does not keep the session from being dropped.
fn beat(session: &Weak<Inner>) -> Option<impl Future<Output = Result<(), Error>> + use<>> {
    let strong = session.upgrade()?;
    let (link, timeout) = (
        strong.link.clone(),
        strong.ttl().max(Duration::from_secs(1)),
    );
    let (commands, pace) = (commands(&strong), pace(&strong));
    let session = session.clone();
    Some(async move {
        let asked = commands.into_iter().map(|command| {
            let (link, session) = (&link, &session);
            async move {
                let command = command.encode().into();
                let (reply, sent, stamp) = ask_once(link, pace, command, timeout).await?;
                let Some(strong) = session.upgrade() else {
                    return Ok(());
                };
                strong.heard(sent, stamp);
                answered(&strong, &reply.outcome, sent)
            }
        });
        join_all(asked).await.into_iter().collect()
    })
}

/// Sends a beat now.
pub(crate) async fn send(session: &Arc<Inner>, timeout: Duration) -> Result<(), Error> {
    let pace = pace(session);
    let asked = commands(session).into_iter().map(|command| async move {
        let command = command.encode().into();
        let (reply, sent, stamp) = ask_once(&session.link, pace, command, timeout).await?;
        session.heard(sent, stamp);
        answered(session, &reply.outcome, sent)
    });
    join_all(asked).await.into_iter().collect()
}

/// By the shortest term that the beat renews.
fn pace(session: &Inner) -> Pace {
    let holds = session.holds().into_iter().filter(|hold| hold.renews());
    let leases = holds.map(|hold| hold.lease());
    Pace::of(leases.fold(session.ttl(), Duration::min))
}

/// One keep-alive as a rule; several if the session renews more leases than fit into one request.
fn commands(session: &Inner) -> Vec<Command> {
    let renewed = session.holds().into_iter().filter(|hold| hold.renews());
    let tokens = renewed.map(|hold| (hold.lock().to_owned(), hold.token()));
    let beat = |tokens| Command::KeepAlive {
        beats: vec![Beat {
            session: session.id(),
            tokens,
        }],
    };
    in_parts(tokens).into_iter().map(beat).collect()
}

/// At least one part, none with more bytes than [`LEASES_BYTES_MAX`].
fn in_parts(leases: impl Iterator<Item = (String, Token)>) -> Vec<Vec<(String, Token)>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for lease in leases {
        let more = LEASE_BYTES + lease.0.len();
        if bytes + more > LEASES_BYTES_MAX {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += more;
        parts.last_mut().expect("there is one").push(lease);
    }
    parts
}

fn answered(session: &Inner, outcome: &Outcome, sent: BootTime) -> Result<(), Error> {
    let Outcome::Alive { beats } = outcome else {
        return Err(Error::BadRequest(
            "the answer to keep_alive is of another kind".to_owned(),
        ));
    };
    let Some(beat) = beats.iter().find(|beat| beat.session == session.id()) else {
        return Err(Error::BadRequest(
            "the answer to keep_alive names others".to_owned(),
        ));
    };
    let Ok(state) = &beat.result else {
        session.expired();
        return Err(Error::Refused(Refusal::SessionExpired));
    };
    session.kept(state.deadline, sent);
    for lock in &state.locks {
        match lock.deadline {
            Some(deadline) => session.told(&lock.lock, lock.token, deadline, sent),
            None => {
                let end = HoldState::Lost(LostWhy::NotHeld(None));
                session.end_hold(&lock.lock, lock.token, end);
            }
        }
    }
    Ok(())
}

fn next_beat(session: &Inner) -> BootTime {
    let holds = session.holds();
    let leases = holds
        .iter()
        .filter(|hold| hold.renews())
        .map(|hold| hold.due());
    leases.fold(session.due(), BootTime::min)
}

/// The next deadline that may pass unheard. Whoever owns a lock for which one has passed is told.
fn next_deadline(session: &Inner) -> Option<BootTime> {
    let now = BootTime::now();
    let mut next: Option<BootTime> = None;
    for hold in session.holds() {
        let HoldState::Held(deadline) = hold.state() else {
            continue;
        };
        let local = session.local(deadline);
        if local > now {
            next = Some(next.map_or(local, |known| known.min(local)));
        } else {
            session.tell_lost(&hold, LostWhy::Deadline);
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many locks a session holds, no request is too long for the service, and each lease is
    /// renewed once.
    #[test]
    fn many_leases_go_in_several_requests() {
        let leases = |count: u64| (0..count).map(|n| (format!("{n:0>200}"), Token(n)));
        assert_eq!(in_parts(leases(0)), [vec![]]);
        assert_eq!(in_parts(leases(3)).len(), 1);
        let parts = in_parts(leases(100_000));
        for part in &parts {
            let command = Command::KeepAlive {
                beats: vec![Beat {
                    session: statemachine::SessionId(1),
                    tokens: part.clone(),
                }],
            };
            assert!(command.encode().len() < 300 << 10);
        }
        let all: Vec<_> = parts.into_iter().flatten().collect();
        assert!(all.into_iter().eq(leases(100_000)));
    }
}
