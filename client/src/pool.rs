//! The sessions of one client.
//!
//! The service bounds the commands that one session may have in flight. So that no user meets that
//! bound, each session serves a bounded number of locks and appends, and a client with more tasks opens more
//! sessions. A lock, its token and its section stay with the session that was granted them.

use std::sync::Arc;

use crate::Error;
use crate::guard::Turns;
use crate::options::Options;
use crate::raw::{Link, Session};

/// Locks held or asked for in one session. Together with [`Turns`] this stays below the service's limit of
/// 1,024 commands in flight.
const SEATS_MAX: usize = 256;

/// See the module. Sessions that have ended are dropped when the next one is wanted.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    session: Session,
    turns: Turns,
    /// Cloned by each seat.
    seats: Arc<()>,
}

/// A place in a session, for one lock.
#[derive(Debug)]
pub(crate) struct Seat {
    _counted: Arc<()>,
}

/// A session with a free place.
#[derive(Debug)]
pub(crate) struct Seated {
    pub(crate) session: Session,
    /// Appends of the session take their turns here.
    pub(crate) turns: Turns,
    pub(crate) seat: Seat,
}

impl Pool {
    /// The first session, opened if there is none or it has expired.
    pub(crate) async fn first(&mut self, link: &Link, options: &Options) -> Result<Session, Error> {
        self.forget_ended();
        if self.members.is_empty() {
            self.open(link, options).await?;
        }
        Ok(self.members[0].session.clone())
    }

    /// A session with a free place, opened if there is none.
    pub(crate) async fn seat(&mut self, link: &Link, options: &Options) -> Result<Seated, Error> {
        self.forget_ended();
        let free = |member: &Member| Arc::strong_count(&member.seats) <= SEATS_MAX;
        let at = match self.members.iter().position(free) {
            Some(at) => at,
            None => {
                self.open(link, options).await?;
                self.members.len() - 1
            }
        };
        let member = &self.members[at];
        Ok(Seated {
            session: member.session.clone(),
            turns: member.turns.clone(),
            seat: Seat {
                _counted: member.seats.clone(),
            },
        })
    }

    /// All open sessions; the pool has none afterwards.
    pub(crate) fn take_all(&mut self) -> Vec<Session> {
        self.forget_ended();
        let members = std::mem::take(&mut self.members);
        members.into_iter().map(|member| member.session).collect()
    }

    fn forget_ended(&mut self) {
        self.members.retain(|member| member.session.is_open());
    }

    async fn open(&mut self, link: &Link, options: &Options) -> Result<(), Error> {
        let Options {
            name,
            session_ttl,
            timeout,
            ..
        } = options;
        let session = Session::open(link, *session_ttl, name, *timeout).await?;
        self.members.push(Member {
            session,
            turns: Turns::default(),
            seats: Arc::default(),
        });
        Ok(())
    }
}
