//! Why no replica could be reached, in words that say what to do.

use std::fmt;
use std::io::ErrorKind;

use net::ConnectError;

/// Why one address could not be reached.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) address: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Nobody listens there.
    Refused,
    /// The name has no address.
    UnknownHost(String),
    /// A web server answers.
    Http,
    /// A replica answers, on the port for other replicas.
    PeerPort,
    /// Whoever listens there does not speak our protocol, or is just ending.
    OtherProtocol,
    Other(String),
}

impl Fault {
    pub(crate) fn unknown_host(address: &str, error: &std::io::Error) -> Fault {
        let kind = Kind::UnknownHost(error.to_string());
        Fault::new(address, kind)
    }

    pub(crate) fn connecting(address: &str, error: &ConnectError) -> Fault {
        let kind = match error {
            ConnectError::Dial(error) if error.kind() == ErrorKind::ConnectionRefused => {
                Kind::Refused
            }
            ConnectError::Closed(closed) if closed.is_http() => Kind::Http,
            ConnectError::Dial(error) => Kind::Other(error.to_string()),
            ConnectError::Timeout(limit) => Kind::Other(format!(
                "no greeting within {} ms; the replica's log and its /readyz say what it waits for",
                limit.as_millis()
            )),
            ConnectError::Closed(_) | ConnectError::Decode(_) => Kind::OtherProtocol,
            error => Kind::Other(error.to_string()),
        };
        Fault::new(address, kind)
    }

    /// It was asked, and did not answer.
    pub(crate) fn silent(address: &str) -> Fault {
        Fault::new(address, Kind::Other("no answer".to_owned()))
    }

    /// A replica's port for other replicas.
    pub(crate) fn peer_port(address: &str) -> Fault {
        Fault::new(address, Kind::PeerPort)
    }

    fn new(address: &str, kind: Kind) -> Fault {
        Fault {
            address: address.to_owned(),
            kind,
        }
    }

    /// Whether trying again soon is of no use.
    fn is_lasting(&self) -> bool {
        !matches!(self.kind, Kind::OtherProtocol | Kind::Other(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Refused => f.write_str("connection refused"),
            Kind::UnknownHost(why) => write!(f, "unknown host: {why}"),
            Kind::Http => f.write_str(
                "speaks HTTP; name the client port, not the HTTP port (20 less by default)",
            ),
            Kind::PeerPort => f.write_str(
                "this is a replica's peer port; name its client port (10 less by default)",
            ),
            Kind::OtherProtocol => f.write_str(
                "the connection ended in the handshake; \
                 is this a replica's client port, and not its HTTP or peer port?",
            ),
            Kind::Other(why) => f.write_str(why),
        }
    }
}

/// Why there is no connection now.
#[derive(Debug)]
pub(crate) struct Unreached {
    pub(crate) reason: String,
    /// Nobody was ever reached, and nobody will be soon: waiting is of no use.
    pub(crate) hopeless: bool,
}

impl Unreached {
    pub(crate) fn other(reason: String) -> Unreached {
        Unreached {
            reason,
            hopeless: false,
        }
    }

    /// Each of the addresses asked has a fault. `never`: none of them was ever connected to.
    pub(crate) fn by_all(faults: &[Fault], never: bool) -> Unreached {
        let hopeless = never && !faults.is_empty() && faults.iter().all(Fault::is_lasting);
        let mut reason = told(faults);
        if hopeless && faults.iter().all(|fault| fault.kind == Kind::Refused) {
            reason += "; is a cluster running? try `node dev`";
        }
        Unreached { reason, hopeless }
    }
}

/// All faults in words, those of one kind together.
pub(crate) fn told(faults: &[Fault]) -> String {
    let mut kinds: Vec<(&Kind, Vec<&str>)> = Vec::new();
    for fault in faults {
        match kinds.iter_mut().find(|(kind, _)| **kind == fault.kind) {
            Some((_, addresses)) => addresses.push(&fault.address),
            None => kinds.push((&fault.kind, vec![&fault.address])),
        }
    }
    let told = kinds.into_iter().map(|(kind, addresses)| {
        let list = addresses.join(", ");
        match (kind, addresses.len()) {
            (Kind::Refused, 1) => format!("connection refused by {list}"),
            (Kind::Refused, 2) => format!("connection refused by both of {list}"),
            (Kind::Refused, many) => format!("connection refused by all {many} of {list}"),
            _ => format!("{list}: {kind}"),
        }
    });
    told.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(kinds: &[Kind]) -> Vec<Fault> {
        let numbered = (1..).zip(kinds);
        numbered
            .map(|(n, kind)| Fault::new(&format!("h:{n}"), kind.clone()))
            .collect()
    }

    #[track_caller]
    fn check(kinds: &[Kind], never: bool, reason: &str, hopeless: bool) {
        let unreached = Unreached::by_all(&faults(kinds), never);
        assert_eq!(
            (unreached.reason.as_str(), unreached.hopeless),
            (reason, hopeless)
        );
    }

    #[test]
    fn only_where_nobody_listens_a_cluster_is_missing() {
        use Kind::{Http, PeerPort, Refused};
        check(
            &[Refused, Refused, Refused],
            true,
            "connection refused by all 3 of h:1, h:2, h:3; is a cluster running? try `node dev`",
            true,
        );
        check(&[Refused], false, "connection refused by h:1", false);
        let reason = "connection refused by h:1; h:2: no answer";
        let silent = Kind::Other("no answer".to_owned());
        check(&[Refused, silent], true, reason, false);
        let reason = "h:1, h:3: speaks HTTP; name the client port, not the HTTP port (20 less by default); \
                      h:2: this is a replica's peer port; name its client port (10 less by default)";
        check(&[Http, PeerPort, Http], true, reason, true);
    }
}
