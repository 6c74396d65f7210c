//! A replica of Holdfast without sockets, timers or signals: what it decides, and what it keeps on its disk.
//!
//! In reading order: [`engine`] takes inputs with a time and says what is to be sent, written and answered;
//! [`filestore`] keeps the users' files; [`boot`] makes an engine out of what a data folder holds; [`records`] is how
//! the agreement's records look in the log. `node` runs it in a process, the simulator runs it in a simulated one.

pub mod boot;
pub mod causes;
pub mod engine;
pub mod filestore;
pub mod records;
