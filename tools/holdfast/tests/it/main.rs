//! The holdfast program as its users meet it, against a real replica.

mod command_line;
mod docs;
mod lock;
mod replica;
mod shell;
mod terminal;
mod verbs;
