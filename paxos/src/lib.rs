//! Multi-Paxos core without I/O.
