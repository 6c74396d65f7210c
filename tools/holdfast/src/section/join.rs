//! The joining end: an `append` looks for the lock around it that guards its file.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Greeting, Join, Joined, LINE_BYTES_MAX};
use crate::failure::Failure;

/// How long a lock around may take to say which it is; it may be busy with another joiner.
const GREETING_PATIENCE: Duration = Duration::from_secs(2);

/// Appends to the section of the innermost lock around this process that is `guard`.
///
/// Returns `false` if there is none, so that the caller makes a section of its own. `sockets` is the value of
/// [`super::VARIABLE`]. Waits for as long as `lock` takes to append: it has a deadline, and ends the stream at it.
///
/// # Errors
///
/// Fails with what the service answered, or with `unknown` if `lock` ended before it told.
pub(crate) async fn join(
    sockets: &str,
    guard: &str,
    file: &str,
    data: &Bytes,
) -> Result<bool, Failure> {
    for path in sockets.split(':').filter(|path| !path.is_empty()) {
        // A lock that has ended leaves its path in the environment of what it started.
        let Ok(Some(stream)) = connect(Path::new(path), guard).await else {
            continue;
        };
        return exchange(stream, file, data).await.map(|()| true);
    }
    Ok(false)
}

/// The token of the lock around this process that bears this name, if there is one.
pub(crate) async fn token_around(sockets: &str, lock: &str) -> Option<u64> {
    for path in sockets.split(':').filter(|path| !path.is_empty()) {
        let greeted = timeout(GREETING_PATIENCE, greet(Path::new(path))).await;
        if let Ok(Ok((greeting, _))) = greeted
            && greeting.lock == lock
        {
            return Some(greeting.token);
        }
    }
    None
}

async fn connect(path: &Path, guard: &str) -> io::Result<Option<BufReader<UnixStream>>> {
    let (greeting, stream) = greet(path).await?;
    Ok((greeting.lock == guard).then_some(stream))
}

async fn greet(path: &Path) -> io::Result<(Greeting, BufReader<UnixStream>)> {
    let mut stream = BufReader::new(UnixStream::connect(path).await?);
    let greeting = receive(&mut stream).await?;
    Ok((greeting, stream))
}

async fn exchange(
    mut stream: BufReader<UnixStream>,
    file: &str,
    data: &Bytes,
) -> Result<(), Failure> {
    let answered: io::Result<Joined> = async {
        let join = Join {
            v: 1,
            file: file.to_owned(),
            bytes: data.len() as u64,
        };
        let mut line = serde_json::to_vec(&join)?;
        line.push(b'\n');
        stream.get_mut().write_all(&line).await?;
        stream.get_mut().write_all(data).await?;
        receive(&mut stream).await
    }
    .await;
    let Joined {
        ok, code, message, ..
    } = answered.map_err(|error| {
        Failure::new(
            "unknown",
            format_args!("the lock around ended before it answered: {error}"),
        )
    })?;
    if ok {
        return Ok(());
    }
    Err(Failure::new(
        code.unwrap_or_else(|| "unknown".to_owned()),
        message.unwrap_or_default(),
    ))
}

async fn receive<T: DeserializeOwned>(stream: &mut BufReader<UnixStream>) -> io::Result<T> {
    let mut line = Vec::new();
    stream
        .take(LINE_BYTES_MAX)
        .read_until(b'\n', &mut line)
        .await?;
    Ok(serde_json::from_slice(&line)?)
}
