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

#[derive(Clone, Debug)]
enum Kind {
    /// Nobody listens there.
    Refused,
    /// The name has no address.
    UnknownHost(String),
    /// Whoever listens there does not speak our protocol.
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
            ConnectError::Dial(error) => Kind::Other(error.to_string()),
            ConnectError::Closed(_) | ConnectError::Decode(_) => Kind::OtherProtocol,
            error => Kind::Other(error.to_string()),
        };
        Fault::new(address, kind)
    }

    /// It was reached, and did not answer.
    pub(crate) fn silent(address: &str) -> Fault {
        Fault::new(address, Kind::Other("no answer".to_owned()))
    }

    fn new(address: &str, kind: Kind) -> Fault {
        Fault {
            address: address.to_owned(),
            kind,
        }
    }

    /// Whether trying again soon is of no use.
    fn is_lasting(&self) -> bool {
        matches!(self.kind, Kind::Refused | Kind::UnknownHost(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = &self.address;
        match &self.kind {
            Kind::Refused => write!(f, "{address}: connection refused"),
            Kind::UnknownHost(why) => write!(f, "{address}: unknown host: {why}"),
            Kind::OtherProtocol => write!(
                f,
                "{address}: the connection ended in the handshake; \
                 is this a replica's client port, and not its HTTP or peer port?"
            ),
            Kind::Other(why) => write!(f, "{address}: {why}"),
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
        let refused = |fault: &Fault| matches!(fault.kind, Kind::Refused);
        let reason = if !faults.is_empty() && faults.iter().all(refused) {
            let addresses: Vec<_> = faults.iter().map(|it| it.address.as_str()).collect();
            let all = match addresses.len() {
                1 => String::new(),
                2 => "both of ".to_owned(),
                many => format!("all {many} of "),
            };
            format!(
                "connection refused by {all}{}; is a cluster running? try `node dev`",
                addresses.join(", ")
            )
        } else {
            let texts: Vec<_> = faults.iter().map(Fault::to_string).collect();
            texts.join("; ")
        };
        Unreached {
            reason,
            hopeless: never && !faults.is_empty() && faults.iter().all(Fault::is_lasting),
        }
    }
}
