//! Where the replicas are, as the user says it.
//!
//! Two forms: `a:1,b:2`, of which one is enough, since it tells the rest; and `1=a:1,2=b:2`, by
//! replica id, where redirects are followed within the list only, so that each way may lead
//! through a proxy.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// One replica's client address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The replica's id, if the user gave one.
    pub id: Option<u16>,
    /// `host:port`.
    pub address: String,
}

/// A non-empty list of endpoints, all with ids or all without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    list: Vec<Endpoint>,
}

impl Endpoints {
    /// Reads each item as an endpoint, or as several with commas between.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if there is none, one does not parse, or forms are mixed.
    pub fn parse<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> Result<Endpoints, Error> {
        let mut list = Vec::new();
        for item in items {
            for part in item
                .as_ref()
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
            {
                list.push(part.parse::<Endpoint>()?);
            }
        }
        Endpoints::new(list)
    }

    /// Checks a list.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if it is empty, an id comes twice, or forms are mixed.
    pub fn new(list: Vec<Endpoint>) -> Result<Endpoints, Error> {
        let with_id = list.iter().filter(|endpoint| endpoint.id.is_some()).count();
        if list.is_empty() {
            return Err(Error::Usage("no endpoint given".to_owned()));
        }
        if with_id != 0 && with_id != list.len() {
            return Err(Error::Usage(
                "endpoints with and without ids are mixed".to_owned(),
            ));
        }
        let mut ids: Vec<_> = list.iter().filter_map(|endpoint| endpoint.id).collect();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::Usage(format!(
                "endpoint id {} is given twice",
                twice[0]
            )));
        }
        Ok(Endpoints { list })
    }

    /// In the order given.
    pub fn as_slice(&self) -> &[Endpoint] {
        &self.list
    }

    /// Whether redirects go by id within this list.
    pub fn by_id(&self) -> bool {
        self.list[0].id.is_some()
    }

    /// The endpoint of this id, or of this address; ids only if the list has them.
    pub fn find(&self, name: &str) -> Option<&Endpoint> {
        let id = name.parse::<u16>().ok();
        self.list
            .iter()
            .find(|endpoint| endpoint.address == name || (id.is_some() && endpoint.id == id))
    }

    /// The endpoint of this id.
    pub fn of_id(&self, id: u16) -> Option<&Endpoint> {
        self.list.iter().find(|endpoint| endpoint.id == Some(id))
    }
}

impl FromStr for Endpoints {
    type Err = Error;

    fn from_str(text: &str) -> Result<Endpoints, Error> {
        Endpoints::parse([text])
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Endpoint, Error> {
        let (id, address) = match text.split_once('=') {
            Some((id, address)) => {
                let id = id.parse().ok().filter(|&id: &u16| id > 0);
                let id = id.ok_or_else(|| Error::Usage(format!("bad replica id in {text:?}")))?;
                (Some(id), address)
            }
            None => (None, text),
        };
        if address.contains('/') {
            return Err(Error::Usage(format!(
                "bad endpoint {text:?}, expected HOST:PORT without a scheme or a path"
            )));
        }
        let sound = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !sound {
            return Err(Error::Usage(format!(
                "bad endpoint {text:?}, expected HOST:PORT"
            )));
        }
        Ok(Endpoint {
            id,
            address: address.to_owned(),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => write!(f, "{id}={}", self.address),
            None => f.write_str(&self.address),
        }
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, endpoint) in self.list.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{endpoint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let found = text.parse::<Endpoints>().ok().map(|list| list.to_string());
        assert_eq!(found.as_deref(), expected, "{text:?}");
    }

    #[test]
    fn both_forms_and_no_mixture() {
        check("127.0.0.1:7401", Some("127.0.0.1:7401"));
        check(" a:1, b:2,", Some("a:1,b:2"));
        check("1=a:1,2=b:2", Some("1=a:1,2=b:2"));
        check("[::1]:7401", Some("[::1]:7401"));
        for bad in [
            "",
            "a",
            "a:",
            ":1",
            "a:70000",
            "http://a:1",
            "0=a:1",
            "x=a:1",
            "1=a:1,b:2",
            "1=a:1,1=b:2",
            "http://a:1",
            "a:1/x",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn found_by_id_or_address() {
        let list: Endpoints = "1=a:1,2=b:2".parse().expect("sound");
        assert_eq!(list.find("2").map(|it| it.address.as_str()), Some("b:2"));
        assert_eq!(list.find("a:1").and_then(|it| it.id), Some(1));
        assert_eq!(list.find("3"), None);
    }
}
