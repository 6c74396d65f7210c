//! The core, whole: scripts, walks, searches and clusters in one thread, under the ghost's eyes.

mod birth;
mod cluster;
mod codec;
mod describe;
mod golden;
mod liveness;
mod rivals;
mod rollback;
mod script;
mod search;
mod slow;
mod timed;
mod walks;
