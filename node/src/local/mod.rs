//! A cluster on this machine: replicas as child processes of this very program.
//!
//! [`cluster`] starts, kills and ends them; [`folder`] is where their data is; [`lifeline`] ends a
//! child whose parent is gone, however that went.

pub mod cluster;
pub mod folder;
pub mod lifeline;

pub use cluster::{Child, Cluster, Ended, Layout};
pub use folder::Folder;
