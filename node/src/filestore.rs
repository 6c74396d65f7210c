//! The users' files.
