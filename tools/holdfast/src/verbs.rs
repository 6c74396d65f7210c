//! The verbs that ask one thing and end: reads, files, force-release, status, health, append.

mod append;
mod cat;
mod cluster;
mod file;
mod locks;

use crate::args::Verb;
use crate::context::Context;
use crate::failure::Failure;

/// Does one verb and returns the exit code.
pub(crate) async fn run(context: &Context, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Append(arguments) => return append::run(context, arguments).await,
        Verb::Cat(arguments) => cat::run(context, arguments).await,
        Verb::File(verb) => file::run(context, verb).await,
        Verb::Locks { prefix } => locks::list(context, prefix.unwrap_or_default()).await,
        Verb::LockStatus { lock } => locks::status(context, lock).await,
        Verb::Sessions => locks::sessions(context).await,
        Verb::ForceRelease {
            lock,
            token,
            reason,
        } => locks::force_release(context, lock, token, reason).await,
        Verb::CheckToken { lock, token } => locks::check_token(context, lock, token).await,
        Verb::Status { until_equal } => cluster::status(context, until_equal).await,
        Verb::Health => cluster::health(context).await,
        Verb::Lock(_) | Verb::Shell(_) | Verb::Completion { .. } => {
            Err(Failure::usage("this verb is run elsewhere"))
        }
    }
    .map(|()| 0)
}
