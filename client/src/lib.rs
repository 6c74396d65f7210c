//! The client library of the Holdfast lock service.

pub mod clock;
pub mod deadline;
mod done_set;
mod endpoint;
mod error;
mod options;
pub mod raw;

pub use endpoint::{Endpoint, Endpoints};
pub use error::{Error, UnknownCall};
pub use options::Options;
