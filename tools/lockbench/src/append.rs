//! The work `append`: a lock stays held, and so many appends are under way at a time.
//!
//! A section has an end, so it is released and the lock taken again now and then; that time counts, those calls do not.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use client::Error;
use client::raw::Call;
use statemachine::Token;

use crate::window::Window;
use crate::worker::Worker;

/// What goes into one section; half of what may. Source: `docs/semantics.md`, limits.
const SECTION_BYTES: usize = 32 << 20;
const SECTION_APPENDS: usize = 50_000;

/// Works until the window is over; gives the client back.
pub(crate) async fn work(mut worker: Worker, window: Rc<Window>, depth: usize) -> Worker {
    while !window.is_over() {
        if section(&worker, &window, depth).await.is_err() {
            window.failed();
            worker.recover().await;
        }
    }
    worker
}

async fn section(worker: &Worker, window: &Window, depth: usize) -> Result<(), Error> {
    let token = worker.acquire().await?;
    let room = SECTION_APPENDS
        .min(SECTION_BYTES / worker.payload.len().max(1))
        .max(depth);
    let mut flight = Flight {
        worker,
        window,
        under_way: VecDeque::with_capacity(depth),
    };
    for _ in 0..room {
        if window.is_over() {
            break;
        }
        if flight.under_way.len() == depth {
            flight.land_one().await?;
        }
        flight.start(token);
    }
    while !flight.under_way.is_empty() {
        flight.land_one().await?;
    }
    worker.release(token).await
}

/// Appends under way, the oldest first; they are answered in that order.
struct Flight<'a> {
    worker: &'a Worker,
    window: &'a Window,
    under_way: VecDeque<(Instant, Call)>,
}

impl Flight<'_> {
    fn start(&mut self, token: Token) {
        self.under_way
            .push_back((Instant::now(), self.worker.start_append(token)));
    }

    async fn land_one(&mut self) -> Result<(), Error> {
        let Some((start, call)) = self.under_way.pop_front() else {
            return Ok(());
        };
        self.worker.wait(&call).await?;
        let took = start.elapsed();
        self.window.done(|times| times.append.record(took));
        Ok(())
    }
}
