//! `shell`: sessions by hand, a command a line; JSON for programs, words for people. The contract is `docs/shell.md`.
//!
//! ```text
//! stdin ──lines──► Request ──begin──► a future for its ending ──┬── awaited: the next line waits
//!   (JSON: request.rs, words: words.rs)      (session.rs)        └── "bg": runs beside
//!                                                               both ──► writer ──► stdout
//! ```
//!
//! Numbers of commands are given out as lines are read, so that commands that run beside each other still have the
//! order of their lines.

mod answer;
mod begin;
mod calls;
mod lines;
mod read;
mod request;
mod session;
mod words;
mod writer;

pub(crate) use answer::data_field;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::LocalSet;

use self::answer::{Ending, Fields, Trouble};
use self::begin::Running;
use self::calls::Calls;
use self::lines::Line;
use self::request::{BadRequest, Id, Request};
use self::session::Sessions;
use self::writer::Writer;
use crate::args::ShellArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::output;
use crate::signals::Signals;

/// Commands that run beside the rest at a time.
const BACKGROUND_MAX: usize = 4096;

/// How long answers may still come once all sessions are closed.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Everything that commands share.
struct Shell {
    context: Context,
    ttl: Option<Duration>,
    events: bool,
    sessions: Sessions,
    calls: RefCell<Calls>,
    writer: Writer,
    /// Commands beside the rest that have no answer yet, by order of their lines.
    background: RefCell<BTreeMap<u64, (Id, Voice)>>,
    started: Cell<u64>,
    finished: tokio::sync::Notify,
}

/// How the answer to a line is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voice {
    Json,
    Words,
}

/// What a line led to.
enum Next {
    Go,
    End,
}

/// Runs until the input ends.
pub(crate) async fn run(context: &Context, arguments: ShellArgs) -> Result<(), Failure> {
    let (writer, written) = Writer::to_stdout();
    let shell = Rc::new(Shell {
        context: context.clone(),
        ttl: arguments.session_ttl,
        events: arguments.events,
        sessions: Sessions::default(),
        calls: RefCell::default(),
        writer,
        background: RefCell::default(),
        started: Cell::new(0),
        finished: tokio::sync::Notify::new(),
    });
    let mut signals = Signals::catch(false)?;
    let local = LocalSet::new();
    local.run_until(converse(&shell, &mut signals)).await;
    drop(local);
    drop(shell);
    // All lines are out before the process ends.
    _ = written.await;
    Ok(())
}

async fn converse(shell: &Rc<Shell>, signals: &mut Signals) {
    let person = std::io::stdin().is_terminal();
    let mut lines = lines::from_stdin();
    let mut numbers = 0;
    loop {
        if person {
            shell.writer.prompt().await;
        }
        let line = tokio::select! {
            line = lines.recv() => line,
            _ = signals.next() => None,
            () = shell.writer.closed() => None,
        };
        let Some(line) = line else { break };
        match shell.understand(line, person, &mut numbers) {
            Understood::Nothing => {}
            Understood::Say(text) => shell.writer.line(text).await,
            Understood::End => break,
            Understood::Bad(bad, voice) => {
                let trouble = Ending::Failed(Trouble::bad_request(bad.message));
                shell.answer(&bad.id, &trouble, voice).await;
            }
            Understood::Command(request, voice) => {
                if let Next::End = shell.obey(request, voice, person, signals).await {
                    break;
                }
            }
        }
    }
    shell.close_all().await;
}

/// What a line means.
enum Understood {
    Nothing,
    Say(String),
    End,
    Bad(BadRequest, Voice),
    Command(Request, Voice),
}

impl Shell {
    fn understand(&self, line: Line, person: bool, numbers: &mut u64) -> Understood {
        let bad = |message: String| {
            // A program's line that makes no sense is answered as programs are.
            let voice = if person {
                self.word_voice()
            } else {
                Voice::Json
            };
            Understood::Bad(
                BadRequest {
                    id: Id::NONE,
                    message,
                },
                voice,
            )
        };
        let Line::Whole(line) = line else {
            return bad(format!(
                "the line is longer than {} bytes",
                lines::LINE_BYTES_MAX
            ));
        };
        if line.trim_ascii_start().starts_with(b"{") {
            return match Request::parse(&line) {
                Ok(request) => Understood::Command(request, Voice::Json),
                Err(bad) => Understood::Bad(bad, Voice::Json),
            };
        }
        let Ok(text) = String::from_utf8(line) else {
            return bad("the line is not UTF-8".to_owned());
        };
        match words::parse(&text) {
            Ok(words::Line::Nothing) => Understood::Nothing,
            Ok(words::Line::Help) => Understood::Say(words::HELP.to_owned()),
            Ok(words::Line::Exit) => Understood::End,
            Ok(words::Line::Command(mut fields)) => {
                *numbers += 1;
                fields.insert("id".to_owned(), (*numbers).into());
                match Request::from_fields(fields) {
                    Ok(request) => Understood::Command(request, self.word_voice()),
                    Err(bad) => Understood::Bad(bad, self.word_voice()),
                }
            }
            Err(message) => bad(message),
        }
    }

    fn word_voice(&self) -> Voice {
        if self.context.output.is_json() {
            Voice::Json
        } else {
            Voice::Words
        }
    }

    /// Runs one command, or starts it to run beside the rest.
    async fn obey(
        self: &Rc<Self>,
        request: Request,
        voice: Voice,
        person: bool,
        signals: &mut Signals,
    ) -> Next {
        let (id, background) = (request.id.clone(), request.background);
        let beginning = self.clone().begin(request);
        let mut running = tokio::select! {
            running = beginning => running,
            _ = signals.next() => {
                let trouble = Trouble::unknown("the shell was told to end");
                self.answer(&id, &Ending::Failed(trouble), voice).await;
                return Next::End;
            }
        };
        if background {
            self.run_beside(id, voice, running).await;
            return Next::Go;
        }
        loop {
            tokio::select! {
                ending = &mut running => {
                    self.answer(&id, &ending, voice).await;
                    return Next::Go;
                }
                signal = signals.next() => {
                    if person && signal == Signal::INT {
                        // The wait ends with an answer of its own.
                        self.cancel_by_hand(&id);
                    } else {
                        self.run_beside(id, voice, running).await;
                        return Next::End;
                    }
                }
            }
        }
    }

    async fn run_beside(self: &Rc<Self>, id: Id, voice: Voice, running: Running) {
        if self.background.borrow().len() >= BACKGROUND_MAX {
            let message = format!("{BACKGROUND_MAX} commands run beside the rest already");
            return self
                .answer(&id, &Ending::Failed(Trouble::bad_request(message)), voice)
                .await;
        }
        let number = self.started.get();
        self.started.set(number + 1);
        self.background
            .borrow_mut()
            .insert(number, (id.clone(), voice));
        let shell = self.clone();
        tokio::task::spawn_local(async move {
            let ending = running.await;
            if shell.background.borrow_mut().remove(&number).is_some() {
                shell.answer(&id, &ending, voice).await;
            }
            shell.finished.notify_one();
        });
    }

    /// Ends all sessions, and answers whatever still runs.
    async fn close_all(&self) {
        let timeout = self.context.timeout;
        self.cancel_all(timeout.min(LAST_ANSWERS)).await;
        let closing = self
            .sessions
            .all()
            .into_iter()
            .map(|session| async move { session.close(timeout).await });
        futures::future::join_all(closing).await;
        let deadline = tokio::time::Instant::now() + LAST_ANSWERS;
        while !self.background.borrow().is_empty() {
            if tokio::time::timeout_at(deadline, self.finished.notified())
                .await
                .is_err()
            {
                break;
            }
        }
        let left = std::mem::take(&mut *self.background.borrow_mut());
        for (id, voice) in left.into_values() {
            let trouble = Trouble::unknown("the shell ended before an answer came");
            self.answer(&id, &Ending::Failed(trouble), voice).await;
        }
    }

    async fn answer(&self, id: &Id, ending: &Ending, voice: Voice) {
        let line = match voice {
            Voice::Json => answer::line(id, ending),
            Voice::Words => answer::words_with_tables(id, ending, output::screen_width()),
        };
        self.writer.line(line).await;
    }

    /// Tells of something between a command and its answer, if anybody wants to know.
    async fn event(&self, id: &Id, name: &str, fields: &Fields) {
        if self.events {
            self.writer.line(answer::event(id, name, fields)).await;
        }
    }
}
