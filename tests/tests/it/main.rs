//! Process tests: real programs on loopback, killed, paused, cut off and restarted, looked at from
//! outside. "Case" in a module is one of the list that every build must pass (`docs/verification.md`).
//!
//! One program for all, so that the harness is linked once. At most two clusters run at a time.

mod bad_input;
mod coursework;
mod damage_trials;
mod disk;
mod leadership;
mod leases;
mod load;
mod old_copies;
mod old_folder;
mod pages;
mod restarts;
mod retries;
mod sections;
mod small_disk;
mod soak;
mod tokens;
