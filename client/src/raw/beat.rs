//! Signs of life: they keep a session and renew its leases, in the background or by hand.

use std::ops::ControlFlow;
use std::sync::{Arc, Weak};
use std::time::Duration;

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
    let (command, pace) = (command(&strong), pace(&strong));
    let session = session.clone();
    Some(async move {
        let (reply, sent, stamp) = ask_once(&link, pace, command.encode().into(), timeout).await?;
        let Some(strong) = session.upgrade() else {
            return Ok(());
        };
        strong.heard(sent, stamp);
        answered(&strong, &reply.outcome, sent)
    })
}

/// Sends a beat now.
pub(crate) async fn send(session: &Arc<Inner>, timeout: Duration) -> Result<(), Error> {
    let (command, pace) = (command(session).encode().into(), pace(session));
    let (reply, sent, stamp) = ask_once(&session.link, pace, command, timeout).await?;
    session.heard(sent, stamp);
    answered(session, &reply.outcome, sent)
}

/// By the shortest term that the beat renews.
fn pace(session: &Inner) -> Pace {
    let holds = session.holds().into_iter().filter(|hold| hold.renews());
    let leases = holds.map(|hold| hold.lease());
    Pace::of(leases.fold(session.ttl(), Duration::min))
}

fn command(session: &Inner) -> Command {
    let renewed = session.holds().into_iter().filter(|hold| hold.renews());
    let tokens: Vec<(String, Token)> = renewed
        .map(|hold| (hold.lock().to_owned(), hold.token()))
        .collect();
    Command::KeepAlive {
        beats: vec![Beat {
            session: session.id(),
            tokens,
        }],
    }
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
