//! All replicas asked at once how they stand.

use std::time::Duration;

use client::Endpoint;
use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use net::{MemberInfo, Status};
use tokio::time::{Instant, timeout_at};

use crate::context::Context;
use crate::facts::ReplicaRow;
use crate::failure::Failure;

/// How long one replica may keep the others' answers back.
const PATIENCE_MAX: Duration = Duration::from_secs(2);

/// What a survey hears, in the order in which it comes.
enum Heard {
    Status(Endpoint, Option<Box<Status>>),
    Members(Vec<MemberInfo>),
}

/// Asks every replica that the endpoints lead to, all at once; one row for each, by id, silent ones too. If
/// pinned, the one only. With a list by id, replicas that are not in it have a row and are not asked. Takes no longer than `timeout`, and no longer than it takes all of them to answer.
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
    let patience = timeout.min(PATIENCE_MAX);
    let until = Instant::now() + patience;
    let ask = |endpoint: Endpoint| {
        async move {
            let status = link
                .status_once(&endpoint, patience)
                .await
                .ok()
                .map(Box::new);
            Heard::Status(endpoint, status)
        }
        .boxed()
    };
    let mut asked: FuturesUnordered<_> = endpoints.as_slice().iter().cloned().map(ask).collect();
    if !context.pin {
        for endpoint in endpoints.as_slice() {
            let members = link.members_once(endpoint, patience);
            asked.push(async { Heard::Members(members.await.unwrap_or_default()) }.boxed());
        }
    }
    let unheard = |endpoint: &Endpoint| (endpoint.clone(), None);
    let mut answers: Vec<_> = endpoints.as_slice().iter().map(unheard).collect();
    let mut members = Vec::new();
    while let Ok(Some(heard)) = timeout_at(until, asked.next()).await {
        match heard {
            Heard::Status(endpoint, status) => {
                answers.retain(|(other, _)| *other != endpoint);
                answers.push((endpoint, status.map(|status| *status)));
            }
            Heard::Members(told) if members.is_empty() => {
                members = told;
                for endpoint in unasked(&members, &answers, endpoints.by_id()) {
                    answers.push((endpoint.clone(), None));
                    asked.push(ask(endpoint));
                }
            }
            Heard::Members(_) => {}
        }
        if all_heard(&members, &answers) {
            break;
        }
    }
    let mut rows = rows(answers, members);
    if endpoints.by_id() {
        for row in &mut rows {
            row.asked = row.id.is_some_and(|id| endpoints.of_id(id).is_some());
        }
    }
    if rows.iter().any(|row| row.reachable) {
        return Ok(rows);
    }
    Err(Failure::new(
        "unavailable",
        format_args!("no replica answers: {}", link.why_silent()),
    ))
}

fn all_heard(members: &[MemberInfo], answers: &[(Endpoint, Option<Status>)]) -> bool {
    let heard = |member: &MemberInfo| {
        let mut statuses = answers.iter().filter_map(|(_, status)| status.as_ref());
        statuses.any(|status| status.id == member.id)
    };
    !members.is_empty() && members.iter().all(heard)
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

/// How the replicas are led, as far as they say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// A majority answers, and one of them leads.
    Certain,
    /// One says that it leads, but too few others answer to be sure.
    Claimed,
    /// One that answers follows a leader that was not to be asked; in words.
    Elsewhere(String),
    /// No replica that answers leads; in words.
    None(String),
}

/// Judges by the rows of all members.
pub(crate) fn lead(rows: &[ReplicaRow]) -> Lead {
    let (answer, all) = (rows.iter().filter(|row| row.reachable).count(), rows.len());
    let needed = all / 2 + 1;
    if rows.iter().any(leads) {
        return if answer >= needed {
            Lead::Certain
        } else {
            Lead::Claimed
        };
    }
    let unasked = rows
        .iter()
        .filter(|row| !row.asked)
        .filter_map(|row| row.id);
    let unasked: Vec<u16> = unasked.collect();
    let follows = |row: &&ReplicaRow| row.leader.is_some_and(|leader| unasked.contains(&leader));
    if let Some(follower) = rows.iter().find(follows) {
        let told = [follower.leader, follower.id].map(Option::unwrap_or_default);
        return Lead::Elsewhere(format!(
            "replica {} leads, says replica {}; --endpoints does not have it, so it was not asked",
            told[0], told[1]
        ));
    }
    if answer >= needed {
        return Lead::None(format!(
            "no leader: {answer} of {all} replicas answer, none leads"
        ));
    }
    if answer + unasked.len() >= needed {
        let others = rows
            .iter()
            .filter(|row| row.asked && !row.reachable)
            .count();
        let silent = if others == 0 {
            String::new()
        } else {
            format!(", {others} silent")
        };
        return Lead::None(format!(
            "no leader known: {answer} of {all} replicas answer, {} not asked since --endpoints does not have them{silent}",
            unasked.len()
        ));
    }
    Lead::None(no_quorum(rows))
}

/// Says how many replicas answer, and how many are needed.
pub(crate) fn no_quorum(rows: &[ReplicaRow]) -> String {
    let (answer, all) = (rows.iter().filter(|row| row.reachable).count(), rows.len());
    format!(
        "no quorum: {answer} of {all} replicas answer, {} are needed",
        all / 2 + 1
    )
}

fn leads(row: &ReplicaRow) -> bool {
    row.reachable && row.role.as_deref() == Some("leader")
}

/// Whether all replicas stand at one slot, at least `slot`, with one state, under a leader that has
/// nothing left to commit: what a new leader has not committed yet may have been acknowledged before.
pub(crate) fn all_equal(rows: &[ReplicaRow], slot: u64) -> bool {
    let Some(first) = rows.first() else {
        return false;
    };
    if !rows.iter().any(|row| leads(row) && row.lag == Some(0)) {
        return false;
    }
    first.applied.is_some_and(|applied| applied >= slot)
        && rows.iter().all(|row| {
            row.reachable
                && row.applied == first.applied
                && row.state_hash == first.state_hash
                && row.files_damaged == Some(0)
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
        let row = |applied, hash| {
            ReplicaRow::from(Status {
                role: "leader".to_owned(),
                ..status(1, applied, hash)
            })
        };
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
        let rotten = ReplicaRow {
            files_damaged: Some(1),
            ..row(5, 1)
        };
        assert!(!all_equal(&[row(5, 1), rotten], 5), "a file is damaged");
        assert!(!all_equal(&[], 0));
        let follower = ReplicaRow::from(status(1, 5, 1));
        assert!(
            !all_equal(&[follower.clone(), follower.clone()], 5),
            "nobody leads"
        );
        assert!(all_equal(&[follower.clone(), row(5, 1)], 5));
        let new_leader = ReplicaRow {
            lag: Some(1),
            ..row(5, 1)
        };
        assert!(!all_equal(&[follower, new_leader], 5), "not all committed");
    }

    #[test]
    fn without_a_majority_or_a_leader_nobody_leads() {
        let row = |id, role: &str| {
            ReplicaRow::from(Status {
                role: role.to_owned(),
                ..status(id, 1, 1)
            })
        };
        let dead = |id| ReplicaRow::silent(Some(id), "x:1");
        assert_eq!(
            lead(&[row(1, "leader"), row(2, "follower"), dead(3)]),
            Lead::Certain
        );
        assert_eq!(lead(&[row(1, "leader"), dead(2), dead(3)]), Lead::Claimed);
        let Lead::None(why) = lead(&[row(1, "prober"), dead(2), dead(3)]) else {
            panic!("nobody leads")
        };
        assert_eq!(why, "no quorum: 1 of 3 replicas answer, 2 are needed");
        let Lead::None(why) = lead(&[row(1, "follower"), row(2, "candidate"), dead(3)]) else {
            panic!("nobody leads")
        };
        assert_eq!(why, "no leader: 2 of 3 replicas answer, none leads");
    }

    #[test]
    fn who_was_not_asked_is_not_silent() {
        let answers = |leader| {
            ReplicaRow::from(Status {
                role: "follower".to_owned(),
                leader,
                ..status(1, 1, 1)
            })
        };
        let unasked = |id| ReplicaRow {
            asked: false,
            ..ReplicaRow::silent(Some(id), "x:1")
        };
        let Lead::Elsewhere(_) = lead(&[answers(Some(3)), unasked(2), unasked(3)]) else {
            panic!("replica 3 leads")
        };
        let Lead::None(why) = lead(&[answers(None), unasked(2), unasked(3)]) else {
            panic!("nobody knows")
        };
        assert_eq!(
            why,
            "no leader known: 1 of 3 replicas answer, 2 not asked since --endpoints does not have them"
        );
        let dead = |id| ReplicaRow::silent(Some(id), "x:1");
        let Lead::None(why) = lead(&[dead(1), dead(2), unasked(3)]) else {
            panic!("a majority is dead")
        };
        assert_eq!(why, "no quorum: 0 of 3 replicas answer, 2 are needed");
    }
}
