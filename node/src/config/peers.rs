//! The list of `--peers`: `1=host:port,2=host:port,...`.

use std::collections::BTreeSet;
use std::fmt;

/// Replicas in one cluster at most. A leader selects among so many acknowledgements per commit.
pub const REPLICAS_MAX: usize = 7;

/// One replica as this one dials it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its number, never 0.
    pub id: u16,
    /// `host:port`; the host may be a name, looked up at each dial.
    pub address: String,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.id, self.address)
    }
}

/// Reads the list; an empty text is an empty list.
///
/// # Errors
///
/// Says in words which item is wrong and what was expected.
pub fn parse_peers(text: &str) -> Result<Vec<Peer>, String> {
    let items = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty());
    let mut peers = items.map(parse_peer).collect::<Result<Vec<_>, _>>()?;
    if peers.len() > REPLICAS_MAX {
        return Err(format!(
            "{} replicas named, at most {REPLICAS_MAX} are possible",
            peers.len()
        ));
    }
    let mut ids = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for peer in &peers {
        if !ids.insert(peer.id) {
            return Err(format!("replica {} is named twice", peer.id));
        }
        if !addresses.insert(peer.address.as_str()) {
            return Err(format!("address {} is named twice", peer.address));
        }
    }
    peers.sort_by_key(|peer| peer.id);
    Ok(peers)
}

fn parse_peer(item: &str) -> Result<Peer, String> {
    let (id, address) = item
        .split_once('=')
        .ok_or_else(|| format!("`{item}` is not of the form ID=HOST:PORT"))?;
    Ok(Peer {
        id: parse_id(id.trim())?,
        address: parse_address(address.trim())?,
    })
}

/// Reads a replica's number.
///
/// # Errors
///
/// Refuses 0 and whatever is not a number of 16 bits.
pub fn parse_id(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(id) if id > 0 => Ok(id),
        _ => Err(format!("`{text}` is not a replica's number, 1 to 65535")),
    }
}

/// Checks `HOST:PORT` and returns it as it stands; the host is not looked up here.
///
/// # Errors
///
/// Refuses a missing host or port, and a port that is not a number of 16 bits.
pub fn parse_address(text: &str) -> Result<String, String> {
    let complain = || format!("`{text}` is not of the form HOST:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(complain)?;
    let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if host.is_empty()
        || bare_v6
        || host.contains(char::is_whitespace)
        || port.parse::<u16>().is_err()
    {
        return Err(complain());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let found = match parse_peers(text) {
            Ok(peers) => peers
                .iter()
                .map(Peer::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            Err(why) => format!("refused: {why}"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn lists_are_read_and_sorted() {
        check("", "");
        check("1=a:1", "1=a:1");
        check(
            "3=c:3, 1=[::1]:7411 ,2=10.0.0.2:7412,",
            "1=[::1]:7411 2=10.0.0.2:7412 3=c:3",
        );
    }

    #[test]
    fn bad_lists_are_refused_with_the_item() {
        check("a:1", "refused: `a:1` is not of the form ID=HOST:PORT");
        check(
            "0=a:1",
            "refused: `0` is not a replica's number, 1 to 65535",
        );
        check(
            "65536=a:1",
            "refused: `65536` is not a replica's number, 1 to 65535",
        );
        check("1=a", "refused: `a` is not of the form HOST:PORT");
        check("1=:7", "refused: `:7` is not of the form HOST:PORT");
        check("1=::1:7", "refused: `::1:7` is not of the form HOST:PORT");
        check(
            "1=a:99999",
            "refused: `a:99999` is not of the form HOST:PORT",
        );
        check("1=a:1,1=b:1", "refused: replica 1 is named twice");
        check("1=a:1,2=a:1", "refused: address a:1 is named twice");
        check(
            "1=a:1,2=b:1,3=c:1,4=d:1,5=e:1,6=f:1,7=g:1,8=h:1",
            "refused: 8 replicas named, at most 7 are possible",
        );
    }
}
