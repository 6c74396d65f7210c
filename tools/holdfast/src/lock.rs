mod command;
pub(crate) mod launcher;
mod terminal;
mod watch;
