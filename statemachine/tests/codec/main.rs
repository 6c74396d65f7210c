//! The bytes of everything: written down so that they never change by accident, and hostile ones
//! that must be refused without harm.

#[path = "../model/first_hash.rs"]
mod first_hash;
mod golden;
mod hostile;
