//! The replicas: how they stand, and whether they can commit.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::context::Context;
use crate::facts::ReplicaRow;
use crate::failure::Failure;
use crate::survey::{all_equal, survey};

/// Between two looks of `--until-equal`.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub(crate) async fn status(
    context: &Context,
    until_equal: Option<Duration>,
) -> Result<(), Failure> {
    let rows = survey(context, context.timeout).await?;
    let Some(patience) = until_equal else {
        return context.output.rows(&rows);
    };
    let (rows, equal) = wait_until_equal(context, rows, patience).await?;
    context.output.rows(&rows)?;
    if equal {
        return Ok(());
    }
    let wait = humantime::format_duration(patience);
    Err(Failure::new(
        "not_equal",
        format_args!("after {wait} the replicas are not at one slot with one state"),
    ))
}

/// What was chosen when asked is the least that all must have applied.
async fn wait_until_equal(
    context: &Context,
    mut rows: Vec<ReplicaRow>,
    patience: Duration,
) -> Result<(Vec<ReplicaRow>, bool), Failure> {
    let until = Instant::now() + patience;
    let chosen = rows.iter().filter_map(|row| row.chosen).max().unwrap_or(0);
    loop {
        if all_equal(&rows, chosen) {
            return Ok((rows, true));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok((rows, false));
        }
        sleep(LOOK_AGAIN.min(left)).await;
        rows = survey(context, context.timeout.min(left.max(LOOK_AGAIN)))
            .await
            .unwrap_or(rows);
    }
}

#[derive(Serialize)]
struct Healthy {
    healthy: bool,
    commit_us: u64,
}

pub(crate) async fn health(context: &Context) -> Result<(), Failure> {
    let took = context.link.health(context.timeout).await?;
    let commit_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let text = format!("healthy: a commit took {commit_us} us");
    context.output.one(
        Healthy {
            healthy: true,
            commit_us,
        },
        &text,
    )
}
