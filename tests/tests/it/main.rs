//! Process tests: real programs on loopback, killed, paused, cut off and restarted, looked at from
//! outside. `verification.md`, section 6, numbers the cases; the modules follow it.
//!
//! One program for all, so that the harness is linked once. At most two clusters run at a time.

mod coursework;
