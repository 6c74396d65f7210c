//! Finding the leader when nobody has named one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use net::{RequestBody, ResponseBody, Status};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::raw::connection::Conn;
use crate::raw::link::Link;
use crate::raw::unreached::{Fault, Unreached, told};

/// How long a replica may take to say how it stands.
const ANSWER: Duration = Duration::from_millis(500);
/// How long others may take to contradict one who claims to lead.
const CONTRADICT: Duration = Duration::from_millis(60);
/// A replica that does not lead is asked again after this: it may be the next to lead, and nobody
/// waits for the one that has fallen silent.
const AGAIN: Duration = Duration::from_millis(20);

/// What one of those asked says.
enum News {
    /// It leads, under this ballot.
    Leads((u64, u64), Arc<Conn>),
    /// It does not, and perhaps knows who does.
    Follows(Arc<Conn>, Option<u16>),
    /// Other members were named, or not.
    Members,
    Failed(Fault),
}

impl Link {
    /// Asks all replicas how they stand and connects to the one that leads under the highest
    /// ballot. One caller does so at a time; the others wait and profit.
    pub(crate) async fn search(&self) -> Result<Arc<Conn>, Unreached> {
        let mut backoff = self.inner.search.lock().await;
        if let Some(address) = self.thought_leader()
            && let Some(dialled) = self.dial_leader(&address).await
        {
            return dialled;
        }
        match self.ask_all().await {
            Ok(conn) => {
                backoff.reset();
                self.trust(&conn.address);
                Ok(conn)
            }
            Err(unreached) => {
                if !unreached.hopeless {
                    tokio::time::sleep(backoff.next_wait()).await;
                }
                Err(unreached)
            }
        }
    }

    async fn ask_all(&self) -> Result<Arc<Conn>, Unreached> {
        let mut scouts = JoinSet::new();
        let mut asked = BTreeSet::new();
        self.ask_others(&mut scouts, &mut asked);
        let mut until = Instant::now() + ANSWER;
        let mut best: Option<((u64, u64), Arc<Conn>)> = None;
        let (mut faults, mut follower) = (Vec::new(), None);
        let mut heard = BTreeSet::new();
        while let Ok(Some(news)) = timeout_at(until, scouts.join_next()).await {
            match news {
                Ok(News::Leads(ballot, conn)) => {
                    if best.as_ref().is_none_or(|(highest, _)| ballot > *highest) {
                        best = Some((ballot, conn));
                    }
                    until = until.min(Instant::now() + CONTRADICT);
                }
                Ok(News::Follows(conn, leader)) => {
                    heard.insert(conn.address.clone());
                    if follower.is_none() {
                        // The leader may be one that nobody had named.
                        scouts.spawn(self.clone().learn_from(conn.clone()));
                    }
                    if best.is_none() {
                        scouts.spawn(self.clone().look(conn.address.clone(), AGAIN));
                    }
                    follower = Some((conn, leader));
                }
                Ok(News::Members) => self.ask_others(&mut scouts, &mut asked),
                Ok(News::Failed(fault)) => {
                    if heard.insert(fault.address.clone()) {
                        faults.push(fault);
                    }
                }
                Err(ended) => return Err(Unreached::other(ended.to_string())),
            }
        }
        best.map(|(_, conn)| conn).ok_or_else(|| {
            let silent = asked.iter().filter(|address| !heard.contains(*address));
            faults.extend(silent.map(|address| Fault::silent(address)));
            match follower {
                Some((conn, leader)) => nobody_leads(&conn, leader, &told(&faults)),
                None => self.unreached(faults),
            }
        })
    }

    /// Asks each candidate that was not asked yet.
    fn ask_others(&self, scouts: &mut JoinSet<News>, asked: &mut BTreeSet<String>) {
        for address in self.candidates() {
            if asked.insert(address.clone()) {
                scouts.spawn(self.clone().look(address, Duration::ZERO));
            }
        }
    }

    async fn look(self, address: String, after: Duration) -> News {
        if !after.is_zero() {
            tokio::time::sleep(after).await;
        }
        let conn = match self.dial(&address).await {
            Ok(conn) => conn,
            Err(fault) => return News::Failed(fault),
        };
        match ask(&conn, RequestBody::Status).await {
            Some(ResponseBody::Status(status)) if status.role == "leader" => {
                News::Leads(ballot(&status), conn)
            }
            Some(ResponseBody::Status(status)) => News::Follows(conn, status.leader),
            _ => News::Failed(Fault::silent(&address)),
        }
    }

    async fn learn_from(self, conn: Arc<Conn>) -> News {
        if let Some(ResponseBody::Members(members)) = ask(&conn, RequestBody::Members).await {
            self.learn(&members);
        }
        News::Members
    }
}

/// Some replica was reached, and no leader.
fn nobody_leads(follower: &Conn, leader: Option<u16>, others: &str) -> Unreached {
    let address = &follower.address;
    let mut reason = match leader {
        Some(id) => format!("{address} says that replica {id} leads, and it was not reached"),
        None => format!("{address} does not lead and knows no leader"),
    };
    if !others.is_empty() {
        reason = format!("{reason}; {others}");
    }
    Unreached::other(reason)
}

/// One question, asked once.
async fn ask(conn: &Arc<Conn>, body: RequestBody) -> Option<ResponseBody> {
    let (mail, mut answers) = mpsc::channel(1);
    let _attempt = conn.send(body, &mail);
    let answer = timeout_at(Instant::now() + ANSWER, answers.recv()).await;
    answer.ok().flatten()?.body
}

/// `round.node` as numbers that order.
fn ballot(status: &Status) -> (u64, u64) {
    let (round, node) = status
        .ballot
        .split_once('.')
        .unwrap_or((&status.ballot, "0"));
    (round.parse().unwrap_or(0), node.parse().unwrap_or(0))
}
