//! All replicas asked at once how they stand.

use std::time::Duration;

use client::Endpoint;
use client::raw::Link;
use futures::future::join_all;
use net::{MemberInfo, Status};

use crate::context::Context;
use crate::facts::ReplicaRow;
use crate::failure::Failure;

/// How long one replica may keep the others' answers back.
const PATIENCE_MAX: Duration = Duration::from_secs(2);

/// Asks every replica that the endpoints lead to; one row for each, by id, silent ones too. If pinned, the one only.
///
/// # Errors
///
/// `unavailable` if none answers.
pub(crate) async fn survey(
    context: &Context,
    timeout: Duration,
) -> Result<Vec<ReplicaRow>, Failure> {
    let link = &context.link;
    let endpoints = link.endpoints();
    let first = ask_all(link, endpoints.as_slice(), timeout).await;
    let members = match context.pin {
        true => Vec::new(),
        false => link
            .members(timeout.min(PATIENCE_MAX))
            .await
            .unwrap_or_default(),
    };
    let others = unasked(&members, &first, endpoints.by_id());
    let second = ask_all(link, &others, timeout).await;
    let rows = rows(first.into_iter().chain(second).collect(), members);
    if rows.iter().any(|row| row.reachable) {
        return Ok(rows);
    }
    Err(Failure::new(
        "unavailable",
        format_args!("no replica answers: {endpoints}"),
    ))
}

async fn ask_all(
    link: &Link,
    endpoints: &[Endpoint],
    timeout: Duration,
) -> Vec<(Endpoint, Option<Status>)> {
    let timeout = timeout.min(PATIENCE_MAX);
    let asked = endpoints.iter().map(|endpoint| async move {
        (
            endpoint.clone(),
            link.status_at(endpoint, timeout).await.ok(),
        )
    });
    join_all(asked).await
}

/// Members that no endpoint was the address of. In a list by id the user chose each way; no other one is taken.
fn unasked(
    members: &[MemberInfo],
    asked: &[(Endpoint, Option<Status>)],
    by_id: bool,
) -> Vec<Endpoint> {
    let known = |member: &MemberInfo| {
        asked.iter().any(|(endpoint, status)| {
            endpoint.address == member.client
                || status.as_ref().is_some_and(|status| status.id == member.id)
        })
    };
    let others = members
        .iter()
        .filter(|member| !by_id && !member.client.is_empty() && !known(member));
    others
        .map(|member| Endpoint {
            id: None,
            address: member.client.clone(),
        })
        .collect()
}

fn rows(answers: Vec<(Endpoint, Option<Status>)>, members: Vec<MemberInfo>) -> Vec<ReplicaRow> {
    let mut rows: Vec<ReplicaRow> = Vec::new();
    for (endpoint, status) in answers {
        let row = match status {
            Some(status) => ReplicaRow::from(status),
            None => ReplicaRow::silent(id_of(&endpoint, &members), &endpoint.address),
        };
        // Two endpoints may lead to one replica.
        if row.id.is_none()
            || !rows
                .iter()
                .any(|other| other.id == row.id && other.reachable)
        {
            rows.retain(|other| row.id.is_none() || other.id != row.id);
            rows.push(row);
        }
    }
    for member in members {
        match rows.iter_mut().find(|row| row.id == Some(member.id)) {
            None => rows.push(member.into()),
            Some(silent) if !silent.reachable => *silent = member.into(),
            Some(_) => {}
        }
    }
    rows.sort_by_key(|row| (row.id.is_none(), row.id));
    rows
}

fn id_of(endpoint: &Endpoint, members: &[MemberInfo]) -> Option<u16> {
    let member = members
        .iter()
        .find(|member| member.client == endpoint.address);
    endpoint.id.or(member.map(|member| member.id))
}

/// Whether all replicas stand at one slot, at least `slot`, with one state.
pub(crate) fn all_equal(rows: &[ReplicaRow], slot: u64) -> bool {
    let Some(first) = rows.first() else {
        return false;
    };
    first.applied.is_some_and(|applied| applied >= slot)
        && rows.iter().all(|row| {
            row.reachable && row.applied == first.applied && row.state_hash == first.state_hash
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str) -> Endpoint {
        Endpoint {
            id: None,
            address: address.to_owned(),
        }
    }

    fn status(id: u16, applied: u64, state_hash: u64) -> Status {
        Status {
            id,
            applied,
            state_hash,
            ..Status::default()
        }
    }

    fn member(id: u16, client: &str) -> MemberInfo {
        MemberInfo {
            id,
            client: client.to_owned(),
            ..MemberInfo::default()
        }
    }

    #[test]
    fn one_row_for_each_replica_whatever_led_to_it() {
        let answers = vec![
            (endpoint("b:2"), Some(status(2, 5, 1))),
            (endpoint("localhost:2"), Some(status(2, 5, 1))),
            (endpoint("a:1"), None),
        ];
        let rows = rows(
            answers,
            vec![member(1, "a:1"), member(2, "b:2"), member(3, "c:3")],
        );
        let shown: Vec<_> = rows.iter().map(|row| (row.id, row.reachable)).collect();
        assert_eq!(shown, [(Some(1), false), (Some(2), true), (Some(3), false)]);
    }

    #[test]
    fn members_without_an_endpoint_are_asked_unless_ways_were_chosen() {
        let asked = [(endpoint("localhost:1"), Some(status(1, 1, 1)))];
        let members = [member(1, "a:1"), member(2, "b:2")];
        assert_eq!(unasked(&members, &asked, false), [endpoint("b:2")]);
        assert_eq!(unasked(&members, &asked, true), []);
    }

    #[test]
    fn equal_means_all_reachable_at_one_slot_with_one_state() {
        let row = |applied, hash| ReplicaRow::from(status(1, applied, hash));
        assert!(all_equal(&[row(5, 1), row(5, 1)], 5));
        assert!(
            !all_equal(&[row(5, 1), row(5, 1)], 6),
            "below what was chosen"
        );
        assert!(!all_equal(&[row(5, 1), row(6, 1)], 5));
        assert!(!all_equal(&[row(5, 1), row(5, 2)], 5));
        assert!(!all_equal(
            &[row(5, 1), ReplicaRow::silent(Some(2), "b:2")],
            5
        ));
        assert!(!all_equal(&[], 0));
    }
}
