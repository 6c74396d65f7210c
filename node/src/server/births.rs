//! Until its cluster is founded: replicas tell each other who they are, and wait.
//!
//! A greeting is all there is to say, so each meeting is one short connection: dial, greet both
//! ways, hang up. Every listed peer is dialled over and over; the listed ones that dial are
//! answered. What is to be made of the greetings, [`paxos::birth`] decides; the record it makes is
//! on the disk before anybody hears of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use net::connection::{self, ConnectError};
use net::{Hello, HelloRole};
use paxos::birth::{Announcement, Birth, BirthAction, BirthRecord};
use paxos::{DiskId, NodeId};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at};
use wal::Folder;

use crate::config::{Peer, ServeConfig};
use crate::failure::{Exit, Failure};
use crate::server::desk::{Desk, Phase};
use crate::server::peers::{Speaker, record_of};
use replica::causes::with_causes;

/// How long one meeting may take.
const MEETING: Duration = Duration::from_secs(1);
/// Between two meetings with the same peer.
const BETWEEN_MEETINGS: Duration = Duration::from_millis(100);
/// Between two questions for the address of a name that has none.
const BETWEEN_LOOKUPS: Duration = Duration::from_secs(1);
/// How often the log says what is waited for.
const REMINDER: Duration = Duration::from_secs(5);
/// Greetings heard and not handled; more wait on their connections.
const HEARD_MAX: usize = 64;

type Heard = (u16, Announcement);
/// By id, why the peers whose names have no address cannot be met.
type Unknown = Rc<RefCell<BTreeMap<u16, String>>>;

/// Returns the record with which this replica was or is now born; the folder holds it durably.
///
/// # Errors
///
/// [`Exit::DataRefused`] if the folder belongs elsewhere or the cluster knows this replica with
/// another disk; [`Exit::WriteFailed`] if the record cannot be stored.
pub(crate) async fn born(
    config: &ServeConfig,
    folder: &mut Folder,
    listener: &TcpListener,
    speaker: &Rc<RefCell<Speaker>>,
    desk: &Desk,
) -> Result<BirthRecord, Failure> {
    if folder.meta().cluster != 0 {
        let record = stored_record(folder)?;
        speaker.borrow_mut().birth = record.encode();
        speaker.borrow_mut().cluster = record.cluster;
        return same_cluster(config, record);
    }
    let list = config.peers.iter().map(|peer| NodeId(peer.id)).collect();
    let mut birth = Birth::new(
        NodeId(config.id),
        DiskId(folder.meta().disk),
        list,
        config.cluster.clone(),
    );
    let actions = birth.begin(random_cluster());
    carry_out(&birth, actions, folder, speaker)?;
    if let Some(record) = birth.born() {
        return Ok(record.clone());
    }
    gather(config, birth, folder, listener, speaker, desk).await
}

fn stored_record(folder: &Folder) -> Result<BirthRecord, Failure> {
    BirthRecord::decode(folder.meta().birth.clone()).map_err(|error| {
        Failure::new(
            Exit::Damaged,
            format!("the birth record does not decode: {}", with_causes(&error)),
        )
    })
}

/// Whether the flags speak of the cluster that the folder belongs to.
fn same_cluster(config: &ServeConfig, record: BirthRecord) -> Result<BirthRecord, Failure> {
    let refuse = |what: String| {
        Err(Failure::new(
            Exit::DataRefused,
            format!("data folder {}: {what}", config.data.display()),
        ))
    };
    if record.name != config.cluster {
        return refuse(format!(
            "it belongs to cluster {:?}, not {:?}",
            record.name, config.cluster
        ));
    }
    let members: Vec<u16> = record.members.iter().map(|(node, _)| node.0).collect();
    let listed: Vec<u16> = match config.peers.as_slice() {
        [] => vec![config.id],
        peers => peers.iter().map(|peer| peer.id).collect(),
    };
    if members != listed {
        return refuse(format!(
            "its cluster has the replicas {members:?}, --peers names {listed:?}"
        ));
    }
    Ok(record)
}

async fn gather(
    config: &ServeConfig,
    mut birth: Birth,
    folder: &mut Folder,
    listener: &TcpListener,
    speaker: &Rc<RefCell<Speaker>>,
    desk: &Desk,
) -> Result<BirthRecord, Failure> {
    let (heard, mut announcements) = mpsc::channel::<Heard>(HEARD_MAX);
    let mut meetings = tokio::task::JoinSet::new();
    let unknown = Unknown::default();
    for peer in config.peers.iter().filter(|peer| peer.id != config.id) {
        let (speaker, heard) = (speaker.clone(), heard.clone());
        meetings.spawn_local(call(peer.clone(), speaker, heard, unknown.clone()));
    }
    let mut reminder = interval_at(Instant::now(), REMINDER);
    let mut quarrels = BTreeMap::new();
    loop {
        tokio::select! {
            Some((peer, announcement)) = announcements.recv() => {
                let actions = birth.on_heard(NodeId(peer), announcement, random_cluster());
                for reason in carry_out(&birth, actions, folder, speaker)? {
                    if quarrels.insert(peer, reason.clone()).as_ref() != Some(&reason) {
                        tracing::warn!(peer, reason, "cannot found a cluster with this peer");
                    }
                }
            }
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    meetings.spawn_local(answer(stream, speaker.clone(), heard.clone()));
                }
            }
            _ = meetings.join_next() => {}
            _ = reminder.tick() => remind(&birth, &quarrels, &unknown, desk),
        }
        if let Some(record) = birth.born() {
            tracing::info!(
                cluster = format!("{:032x}", record.cluster),
                name = record.name,
                "the cluster is founded"
            );
            return Ok(record.clone());
        }
    }
}

/// Does what the birth protocol asks and returns why peers were refused, if any were.
fn carry_out(
    birth: &Birth,
    actions: Vec<BirthAction>,
    folder: &mut Folder,
    speaker: &Rc<RefCell<Speaker>>,
) -> Result<Vec<String>, Failure> {
    let mut quarrels = Vec::new();
    for action in actions {
        match action {
            BirthAction::Store(record) => {
                let bytes = record.encode();
                folder
                    .store_birth(record.cluster, &bytes)
                    .map_err(|error| {
                        let exit = match &error {
                            wal::Error::Damaged(_) => Exit::Damaged,
                            error if error.is_denied() => Exit::DataRefused,
                            error if error.is_unreadable() => Exit::Other,
                            _ => Exit::WriteFailed,
                        };
                        Failure::new(
                            exit,
                            format!("cannot store the birth record: {}", with_causes(&error)),
                        )
                    })?;
                let mut speaker = speaker.borrow_mut();
                speaker.cluster = record.cluster;
                speaker.birth = bytes;
            }
            BirthAction::Refuse(reason) => return Err(Failure::new(Exit::DataRefused, reason)),
            BirthAction::RefusePeer { reason, .. } => quarrels.push(reason),
            // The next meeting tells; there is one soon.
            BirthAction::Announce(_) => {}
        }
    }
    debug_assert_eq!(
        birth.born().is_some(),
        speaker.borrow().cluster != 0,
        "born and stored go together"
    );
    Ok(quarrels)
}

fn remind(birth: &Birth, quarrels: &BTreeMap<u16, String>, unknown: &Unknown, desk: &Desk) {
    let missing: Vec<String> = birth
        .missing()
        .iter()
        .map(|node| node.0.to_string())
        .collect();
    let waits_for = match (missing.as_slice(), quarrels.values().next()) {
        (_, Some(reason)) => reason.clone(),
        ([], None) => "the birth record of the lowest id".to_owned(),
        (missing, None) => {
            let words = format!("the first words of replica {}", missing.join(", "));
            match unknown.borrow().values().next() {
                Some(why) => format!("{words}; {why}"),
                None => words,
            }
        }
    };
    tracing::info!(waits_for, "the cluster is not founded yet");
    desk.enter(Phase::Unborn {
        waits_for: format!("the cluster is not founded yet, waiting for {waits_for}"),
    });
}

/// Whether the peer's name has an address. If not, the log says so once, and the reminders go on saying it.
async fn is_known(peer: &Peer, unknown: &Unknown) -> bool {
    let Err(error) = tokio::net::lookup_host(&peer.address).await else {
        unknown.borrow_mut().remove(&peer.id);
        return true;
    };
    let why = format!(
        "--peers {}={}: unknown host: {error}",
        peer.id, peer.address
    );
    if unknown.borrow_mut().insert(peer.id, why.clone()).is_none() {
        tracing::warn!("{why}");
    }
    false
}

/// Meets one peer over and over by dialling it.
async fn call(
    peer: Peer,
    speaker: Rc<RefCell<Speaker>>,
    heard: mpsc::Sender<Heard>,
    unknown: Unknown,
) {
    let options = connection::Options {
        handshake: MEETING,
        ..connection::Options::default()
    };
    loop {
        if !is_known(&peer, &unknown).await {
            tokio::time::sleep(BETWEEN_LOOKUPS).await;
            continue;
        }
        let hello = speaker.borrow().greeting(bytes::Bytes::new());
        match connection::dial(&peer.address, &hello, &options).await {
            Ok(greeted) => {
                if let Some((id, announcement)) = announcement_of(&greeted.hello)
                    && id == peer.id
                {
                    let _ = heard.send((id, announcement)).await;
                }
                greeted.sender.close();
            }
            Err(error @ ConnectError::Mismatch(_)) => {
                tracing::warn!(
                    peer = peer.id,
                    address = peer.address,
                    error = with_causes(&error),
                    "this peer does not fit"
                );
                tokio::time::sleep(REMINDER).await;
            }
            Err(error) => tracing::debug!(
                peer = peer.id,
                address = peer.address,
                error = with_causes(&error),
                "peer not reached"
            ),
        }
        tokio::time::sleep(BETWEEN_MEETINGS.mul_f64(rand::random_range(0.5..1.5))).await;
    }
}

/// Meets whoever dialled.
async fn answer(stream: TcpStream, speaker: Rc<RefCell<Speaker>>, heard: mpsc::Sender<Heard>) {
    let options = connection::Options {
        handshake: MEETING,
        ..connection::Options::default()
    };
    let greeting = |theirs: &Hello| match theirs.role {
        HelloRole::Peer(_) => Ok(speaker.borrow().greeting(bytes::Bytes::new())),
        // So that it can say which port it was given.
        HelloRole::Client { .. } => Ok(Hello::of_peer_port(speaker.borrow().node)),
        HelloRole::Server { .. } => Err("this is the port for replicas".to_owned()),
    };
    if let Ok(greeted) = connection::accept(stream, &options, greeting).await {
        if let Some(said) = announcement_of(&greeted.hello) {
            let _ = heard.send(said).await;
        }
        greeted.sender.close();
    }
}

fn announcement_of(hello: &Hello) -> Option<Heard> {
    let HelloRole::Peer(said) = &hello.role else {
        return None;
    };
    let mut list: Vec<NodeId> = said.members.iter().copied().map(NodeId).collect();
    list.sort_unstable();
    Some((
        said.node,
        Announcement {
            list,
            disk: DiskId(said.disk),
            born: record_of(said),
        },
    ))
}

/// Never 0, which means "not born".
fn random_cluster() -> u128 {
    rand::random_range(1..=u128::MAX)
}
