//! The bytes of everything: written down so that they never change by accident, and hostile ones
//! that must be refused without harm.

mod golden;
mod hostile;
