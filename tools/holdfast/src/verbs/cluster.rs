//! The replicas: how they stand, and whether they can commit.

use std::time::Duration;

use serde::Serialize;
use statemachine::{Query, Token};
use tokio::time::{Instant, sleep};

use crate::context::Context;
use crate::facts::{RefusedRow, ReplicaRow};
use crate::failure::Failure;
use crate::survey::{Lead, all_equal, lead, no_quorum, survey};

/// Between two looks of `--until-equal`.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long a read may take that is to prove a quorum.
const PROOF: Duration = Duration::from_secs(1);

/// Shows the replicas; fails as `unavailable` if they cannot commit.
pub(crate) async fn status(
    context: &Context,
    until_equal: Option<Duration>,
) -> Result<(), Failure> {
    if let Some(patience) = until_equal {
        return wait_until_equal(context, patience).await;
    }
    let asked = Instant::now();
    let rows = survey(context, context.timeout).await?;
    context.output.rows(&rows)?;
    tell_refusals(context, &rows);
    if context.pin {
        return Ok(());
    }
    let left = context.timeout.saturating_sub(asked.elapsed());
    match lead(&rows) {
        Lead::Certain => Ok(()),
        Lead::Claimed if is_led(context, left.min(PROOF)).await => Ok(()),
        Lead::Elsewhere(why) => {
            context.output.notice("not_asked", &why);
            Ok(())
        }
        Lead::Claimed => Err(Failure::new("unavailable", no_quorum(&rows))),
        Lead::None(why) => Err(Failure::new("unavailable", why)),
    }
}

/// The table has no room for reasons; the JSON form has them in its rows.
fn tell_refusals(context: &Context, rows: &[ReplicaRow]) {
    if context.output.is_json() {
        return;
    }
    for row in rows {
        let by = row.id.unwrap_or_default();
        for RefusedRow { id, why } in &row.refuses {
            let message = format!("replica {by} refuses replica {id}: {why}");
            context.output.notice("refused", &message);
        }
    }
}

/// Whether a linearizable read succeeds, which takes a quorum. The others may be out of our reach only.
async fn is_led(context: &Context, timeout: Duration) -> bool {
    let query = Query::CheckToken {
        lock: "default".to_owned(),
        token: Token(0),
    };
    context.link.query(&query, timeout).await.is_ok()
}

/// What was chosen when asked is the least that all must have applied: chosen as a leader knows it, or
/// any replica as long as there is none.
async fn wait_until_equal(context: &Context, patience: Duration) -> Result<(), Failure> {
    let until = Instant::now() + patience;
    let (mut rows, mut chosen, mut led) = (Vec::new(), 0, false);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let asked = survey(context, context.timeout.min(left)).await;
        if let Ok(now) = asked {
            rows = now;
            if !led {
                chosen = rows
                    .iter()
                    .filter_map(|row| row.chosen)
                    .fold(chosen, u64::max);
                led = matches!(lead(&rows), Lead::Certain);
            }
            if all_equal(&rows, chosen) {
                return context.output.rows(&rows);
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            context.output.rows(&rows)?;
            let wait = humantime::format_duration(patience);
            let mut why = format!(
                "after {wait} the replicas are not all at one slot with one state under a leader"
            );
            if rows.iter().any(|row| !row.asked) {
                why += "; those that --endpoints does not have were not asked";
            }
            let rotten = rows.iter().filter(|row| row.files_damaged > Some(0));
            let rotten: Vec<String> = rotten.filter_map(|row| Some(row.id?.to_string())).collect();
            if !rotten.is_empty() {
                why += &format!("; files are damaged on replica {}", rotten.join(", "));
            }
            return Err(Failure::new("not_equal", why));
        }
        sleep(LOOK_AGAIN.min(left)).await;
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
