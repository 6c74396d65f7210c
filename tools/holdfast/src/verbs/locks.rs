//! Locks, their holders, and what an operator can do about them.

use serde::Serialize;
use statemachine::{Answer, Op, PAGE_MAX, Printable, Query, Token};

use super::file::change;
use crate::context::{Context, unexpected};
use crate::facts::{LockObject, LockRow, SessionRow};
use crate::failure::Failure;

pub(crate) async fn list(context: &Context, prefix: String) -> Result<(), Failure> {
    let mut rows: Vec<LockRow> = Vec::new();
    loop {
        let after = rows.last().map(|row| row.lock.clone());
        let query = Query::Locks {
            prefix: prefix.clone(),
            after,
            limit: PAGE_MAX,
        };
        let Answer::Locks(page) = context.query(&query).await?.1 else {
            return Err(unexpected("locks"));
        };
        let more = page.more && !page.items.is_empty();
        rows.extend(page.items.into_iter().map(LockRow::from));
        if !more {
            return context.output.rows(&rows);
        }
    }
}

pub(crate) async fn status(context: &Context, lock: String) -> Result<(), Failure> {
    let (slot, Answer::Lock(status)) = context.query(&Query::LockStatus { lock }).await? else {
        return Err(unexpected("lock status"));
    };
    let object = LockObject::new(status, slot);
    let text = object.text();
    context.output.one(object, &text)
}

pub(crate) async fn sessions(context: &Context) -> Result<(), Failure> {
    let mut rows: Vec<SessionRow> = Vec::new();
    loop {
        let after = rows
            .last()
            .map(|row| statemachine::SessionId(row.session_id));
        let Answer::Sessions(page) = context
            .query(&Query::Sessions {
                after,
                limit: PAGE_MAX,
            })
            .await?
            .1
        else {
            return Err(unexpected("sessions"));
        };
        let more = page.more && !page.items.is_empty();
        rows.extend(page.items.into_iter().map(SessionRow::from));
        if !more {
            return context.output.rows(&rows);
        }
    }
}

pub(crate) async fn force_release(
    context: &Context,
    lock: String,
    token: u64,
    reason: String,
) -> Result<(), Failure> {
    change(
        context,
        Op::ForceRelease {
            lock,
            token: Token(token),
            reason,
        },
    )
    .await
}

#[derive(Serialize)]
struct Checked {
    lock: String,
    token: u64,
    current: bool,
}

pub(crate) async fn check_token(
    context: &Context,
    lock: String,
    token: u64,
) -> Result<(), Failure> {
    let query = Query::CheckToken {
        lock: lock.clone(),
        token: Token(token),
    };
    let Answer::Token { current } = context.query(&query).await?.1 else {
        return Err(unexpected("check-token"));
    };
    if !current {
        return Err(Failure::new(
            "stale_token",
            format_args!("lock {lock}: token {token} is not the current one"),
        ));
    }
    let text = format!("{}: token {token} is the current one", Printable(&lock));
    context.output.one(
        Checked {
            lock,
            token,
            current,
        },
        &text,
    )
}
