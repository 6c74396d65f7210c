//! Between clients and replicas.

use std::fmt;

use net::ResponseBody;
use replica::engine::{ConnId, Input};

use super::World;
use crate::sim::check::Verdict;
use crate::sim::check::history::Asked;
use crate::sim::client::Act;
use crate::sim::event::Event;
use crate::sim::network::ToClient;

impl World {
    pub(super) fn schedule_client(&mut self, client: usize, now_us: u64) {
        let (model, clock) = &self.clients[client];
        let next = model.next_wake();
        if next == i64::MAX {
            return;
        }
        let at_us = clock.real(next).max(now_us + 1);
        self.client_wakes[client] += 1;
        let wake = self.client_wakes[client];
        self.agenda.add(at_us, Event::ClientWake { client, wake });
    }

    pub(super) fn after_client(&mut self, client: usize) -> Verdict {
        for act in self.clients[client].0.take_acts() {
            match act {
                Act::Send {
                    replica,
                    request,
                    call,
                    what,
                } => {
                    let answered = self.history.answered();
                    let floor = *self.floors.entry(call).or_insert(answered);
                    self.trace.line(
                        self.now_us,
                        format_args!("c{client} -> r{replica} {:x} {what:?}", request.id),
                    );
                    let sent_us = self.now_us;
                    let asked = Asked {
                        what,
                        floor,
                        sent_us,
                    };
                    self.asked.insert(request.id, asked);
                    let conn = self.conn(client, replica);
                    for at_us in self.network.client_arrivals(self.now_us) {
                        let request = request.clone();
                        self.agenda.add(
                            at_us,
                            Event::Request {
                                replica,
                                conn,
                                request,
                            },
                        );
                    }
                }
                Act::LoseLease {
                    lock,
                    since_us,
                    until_us,
                    term_us,
                } => {
                    let clock = self.clients[client].1;
                    let asked_us = clock.real(since_us) + term_us / 4;
                    self.on_lost_lease(client, &lock, asked_us, clock.real(until_us))?;
                }
                Act::Believe {
                    lock,
                    token,
                    until_us,
                } => {
                    let until = until_us.map(|until| self.clients[client].1.real(until));
                    self.trace.line(
                        self.now_us,
                        format_args!("c{client} believes in {lock} token {token} until {until:?}"),
                    );
                    self.marks.hit("belief");
                    self.beliefs
                        .on_belief(self.now_us, &lock, (client, token), until)?;
                }
            }
        }
        self.schedule_client(client, self.now_us);
        Ok(())
    }

    pub(super) fn conn(&mut self, client: usize, replica: usize) -> u64 {
        let next = &mut self.next_conn;
        let conn = *self.conns.entry((client, replica)).or_insert_with(|| {
            *next += 1;
            *next
        });
        self.conn_owners.insert(conn, client);
        conn
    }

    /// A client's connection breaks.
    pub(in crate::sim) fn reset_client(&mut self, client: usize) {
        for replica in 0..self.replicas.len() {
            if let Some(conn) = self.conns.remove(&(client, replica)) {
                let life = self.replicas[replica].life;
                let input = Input::ClientGone { conn: ConnId(conn) };
                let at_us = self.now_us + self.network.latency();
                self.gone_conns.insert(conn, at_us);
                self.agenda.add(
                    at_us,
                    Event::Deliver {
                        replica,
                        life,
                        input: input.into(),
                    },
                );
            }
        }
    }

    /// A client does nothing for a while.
    pub(in crate::sim) fn pause_client(&mut self, client: usize, for_us: u64) {
        let until = self.clients[client].1.local(self.now_us + for_us);
        self.clients[client].0.pause(until);
        self.schedule_client(client, self.now_us);
    }

    pub(super) fn on_request(&mut self, replica: usize, conn: u64, request: net::Request) {
        let client = self.conn_owners[&conn];
        // Nothing comes over a connection after its end. What is late comes over the next one.
        let is_gone = |at_us: &u64| *at_us <= self.now_us;
        let conn = match self.gone_conns.get(&conn).is_some_and(is_gone) {
            true => self.conn(client, replica),
            false => conn,
        };
        if self.replicas[replica].process.is_none() {
            let what = ToClient::Broken(request.id);
            let at_us = self.now_us + self.network.latency();
            self.agenda.add(at_us, Event::ToClient { client, what });
            return;
        }
        self.deliver(
            replica,
            Input::Client {
                conn: ConnId(conn),
                request,
            },
        );
    }

    pub(super) fn reply(&mut self, replica: usize, conn: ConnId, response: net::Response) {
        let client = self.conn_owners[&conn.0];
        self.trace.line(
            self.now_us,
            format_args!(
                "r{replica} -> c{client} {:x} {}",
                response.id,
                Short(&response.body)
            ),
        );
        for at_us in self.network.client_arrivals(self.now_us) {
            let what = ToClient::Response(response.clone());
            self.agenda.add(at_us, Event::ToClient { client, what });
        }
    }

    pub(super) fn on_to_client(&mut self, client: usize, what: ToClient) -> Verdict {
        let now = self.clients[client].1.local(self.now_us);
        let (model, _) = &mut self.clients[client];
        if now < model.paused_until() {
            let at_us = self.clients[client]
                .1
                .real(self.clients[client].0.paused_until());
            self.agenda.add(at_us, Event::ToClient { client, what });
            return Ok(());
        }
        match what {
            ToClient::Broken(request) => model.on_broken(now, request),
            ToClient::Response(response) => {
                if let Some(asked) = self.asked.get(&response.id) {
                    self.history.on_answer(response.id, asked, &response.body)?;
                }
                self.trace
                    .mix(&[92, client as u64, response.id, self.now_us]);
                self.mark_answer(&response.body);
                self.mark_settled(&response.body);
                self.clients[client]
                    .0
                    .on_response(now, response.id, response.body);
            }
        }
        self.after_client(client)
    }
}

/// An answer in a line of the trace; nothing is written where no trace is kept.
struct Short<'a>(&'a ResponseBody);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ResponseBody::Outcome {
                slot,
                stamp_ms,
                bytes,
            } => write!(
                f,
                "outcome at {slot} L {stamp_ms:?} {:?}",
                statemachine::Outcome::decode(bytes)
            ),
            other => write!(f, "{:.120}", format!("{other:?}")),
        }
    }
}
