//! The core, whole: scripts, walks, searches and clusters in one thread, under the ghost's eyes.

mod cluster;
mod liveness;
mod timed;
mod walks;
