//! Finding the leader when nobody has named one.

use std::sync::Arc;
use std::time::Duration;

use net::{RequestBody, ResponseBody, Status};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::raw::connection::Conn;
use crate::raw::link::{Link, Route};

/// How long a replica may take to say how it stands.
const ANSWER: Duration = Duration::from_millis(500);
/// How long others may take to contradict one who claims to lead.
const CONTRADICT: Duration = Duration::from_millis(60);

impl Link {
    /// Asks all replicas how they stand and connects to the one that leads under the highest
    /// ballot. One caller does so at a time; the others wait and profit.
    pub(crate) async fn search(&self) -> Result<Arc<Conn>, String> {
        let mut backoff = self.inner.search.lock().await;
        if let Some(address) = self.thought_leader() {
            return self.dial(&address).await;
        }
        let mut found = self.ask_all().await;
        if found.is_err() && self.learn_members().await {
            // The leader may be one that nobody had named.
            found = self.ask_all().await;
        }
        match found {
            Ok(conn) => {
                backoff.reset();
                self.trust(&conn.address);
                Ok(conn)
            }
            Err(reason) => {
                tokio::time::sleep(backoff.next_wait()).await;
                Err(reason)
            }
        }
    }

    async fn ask_all(&self) -> Result<Arc<Conn>, String> {
        let mut asked = JoinSet::new();
        for address in self.candidates() {
            let link = self.clone();
            asked.spawn(async move { link.ask_status(&address).await });
        }
        let mut until = Instant::now() + ANSWER;
        let mut best: Option<((u64, u64), Arc<Conn>)> = None;
        let mut reason = "no replica leads".to_owned();
        while let Ok(Some(answer)) = timeout_at(until, asked.join_next()).await {
            match answer {
                Ok(Ok((status, conn))) if status.role == "leader" => {
                    let ballot = ballot(&status);
                    if best.as_ref().is_none_or(|(highest, _)| ballot > *highest) {
                        best = Some((ballot, conn));
                    }
                    until = until.min(Instant::now() + CONTRADICT);
                }
                Ok(Ok(_)) => {}
                Ok(Err(why)) => reason = why,
                Err(panicked) => reason = panicked.to_string(),
            }
        }
        best.map(|(_, conn)| conn).ok_or(reason)
    }

    async fn ask_status(&self, address: &str) -> Result<(Box<Status>, Arc<Conn>), String> {
        let conn = self.dial(address).await?;
        match ask(&conn, RequestBody::Status).await {
            Some(ResponseBody::Status(status)) => Ok((status, conn)),
            _ => Err(format!("{address}: no answer")),
        }
    }

    /// Asks those who are reached already for all members. True if that names new ones.
    async fn learn_members(&self) -> bool {
        let before = self.candidates();
        for address in &before {
            let Some(conn) = self.ready(&Route::At(address.clone())) else {
                continue;
            };
            if let Some(ResponseBody::Members(members)) = ask(&conn, RequestBody::Members).await {
                self.learn(&members);
                break;
            }
        }
        self.candidates() != before
    }
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
