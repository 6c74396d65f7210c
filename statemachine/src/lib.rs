//! Locks, sessions, leases and files as a deterministic state machine.
