//! What a frame says, as far as a test picks frames by it.

use bytes::Bytes;
use net::{Request, RequestBody, Response, ResponseBody};
use statemachine::{Command, Op};

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client, or the replica that dialled.
    ToServer,
    /// Back.
    ToClient,
}

/// What a request is, or what a response answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first frame each way.
    Hello,
    /// Opens a session.
    Open,
    /// Keeps sessions alive.
    KeepAlive,
    /// Closes a session.
    Close,
    /// Asks for a lock.
    Acquire,
    /// Leaves a queue.
    Cancel,
    /// Extends a lease.
    Renew,
    /// Adds to a section.
    Append,
    /// Applies a section.
    Release,
    /// Discards a section.
    Abort,
    /// Any other command.
    OtherCommand,
    /// A read.
    Query,
    /// Status, members, health.
    Service,
    /// Not of the client's protocol.
    Foreign,
}

/// One frame as the rules see it.
#[derive(Clone, Debug)]
pub struct Sight {
    /// Which way it goes.
    pub direction: Direction,
    /// What it is, or what it answers.
    pub kind: Kind,
    /// The id of request or response.
    pub id: Option<u64>,
    /// A response that is not the last of its request: `Waiting`.
    pub interim: bool,
    /// The command, in a request that has one.
    pub command: Option<Command>,
}

impl Sight {
    /// Looks at the `number`th frame (from 1) of one direction; `asked` tells what the request of an
    /// id was.
    pub fn of(
        direction: Direction,
        number: u64,
        body: &[u8],
        asked: impl FnOnce(u64) -> Option<Kind>,
    ) -> Sight {
        if number == 1 {
            return Sight::bare(direction, Kind::Hello);
        }
        let body = Bytes::copy_from_slice(body);
        let seen = match direction {
            Direction::ToServer => Self::of_request(body),
            Direction::ToClient => Self::of_response(body, asked),
        };
        seen.unwrap_or_else(|| Sight::bare(direction, Kind::Foreign))
    }

    fn bare(direction: Direction, kind: Kind) -> Sight {
        Sight {
            direction,
            kind,
            id: None,
            interim: false,
            command: None,
        }
    }

    fn of_request(body: Bytes) -> Option<Sight> {
        let request = Request::decode(body).ok()?;
        let (kind, command) = match request.body {
            RequestBody::Command(bytes) => {
                let command = Command::decode(&bytes).ok()?;
                (kind_of(&command), Some(command))
            }
            RequestBody::Query { .. } => (Kind::Query, None),
            _ => (Kind::Service, None),
        };
        let bare = Sight::bare(Direction::ToServer, kind);
        Some(Sight {
            id: Some(request.id),
            command,
            ..bare
        })
    }

    fn of_response(body: Bytes, asked: impl FnOnce(u64) -> Option<Kind>) -> Option<Sight> {
        let response = Response::decode(body).ok()?;
        let bare = Sight::bare(Direction::ToClient, asked(response.id)?);
        let interim = matches!(response.body, ResponseBody::Waiting { .. });
        Some(Sight {
            id: Some(response.id),
            interim,
            ..bare
        })
    }
}

fn kind_of(command: &Command) -> Kind {
    match command {
        Command::Open { .. } => Kind::Open,
        Command::KeepAlive { .. } => Kind::KeepAlive,
        Command::Settle { .. } => Kind::OtherCommand,
        Command::Session { op, .. } => match op {
            Op::Close => Kind::Close,
            Op::Acquire { .. } => Kind::Acquire,
            Op::Cancel { .. } => Kind::Cancel,
            Op::Renew { .. } => Kind::Renew,
            Op::Append { .. } => Kind::Append,
            Op::Release { .. } => Kind::Release,
            Op::Abort { .. } => Kind::Abort,
            _ => Kind::OtherCommand,
        },
    }
}
