//! A shell behind proxies of its own, so that the faults of one client are nobody else's.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::shell::Shell;
use crate::history::History;
use crate::proxy::{Proxy, Rules};

/// A client whose every connection passes a proxy.
#[derive(Debug)]
pub struct Client {
    // First, so that the shell ends before its proxies go.
    shell: Shell,
    rules: Arc<Rules>,
    proxies: BTreeMap<u16, Proxy>,
}

impl Client {
    /// Starts a shell whose endpoints are these proxies.
    pub(super) fn start(
        name: &str,
        rules: Arc<Rules>,
        proxies: BTreeMap<u16, Proxy>,
        folder: &Path,
        flags: &[&str],
        history: Arc<History>,
    ) -> Client {
        let one = |(id, proxy): (&u16, &Proxy)| format!("{id}={}", proxy.address());
        let endpoints = proxies.iter().map(one).collect::<Vec<_>>().join(",");
        let shell = Shell::start(name, &endpoints, folder, flags, history);
        Client {
            shell,
            rules,
            proxies,
        }
    }

    /// What happens to this client's frames.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The proxy before one replica.
    pub fn proxy(&self, id: u16) -> &Proxy {
        &self.proxies[&id]
    }

    /// Cuts this client off from every replica.
    pub fn sever(&self) {
        self.proxies.values().for_each(Proxy::sever);
    }

    /// Ends [`Client::sever`].
    pub fn heal(&self) {
        self.proxies.values().for_each(Proxy::heal);
    }
}

impl std::ops::Deref for Client {
    type Target = Shell;

    fn deref(&self) -> &Shell {
        &self.shell
    }
}

impl std::ops::DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Shell {
        &mut self.shell
    }
}
