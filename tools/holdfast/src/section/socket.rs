//! The listening end: `lock` takes what joiners bring, one after the other.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::{
    APPEND_BYTES_MAX, Greeting, Join, Joined, LINE_BYTES_MAX, SECTION_BYTES_MAX, VARIABLE,
};
use crate::failure::Failure;

/// How long a joiner may keep the others waiting.
const JOINER_PATIENCE: Duration = Duration::from_secs(10);

/// The longest path that a socket may have (`sun_path`, less the final zero).
const PATH_BYTES_MAX: usize = 107;

/// How a socket appends to the section that it stands for.
pub(crate) trait Appender {
    /// Appends one piece, to [`APPEND_BYTES_MAX`].
    async fn append(&self, file: &str, data: Bytes) -> Result<(), Failure>;
}

/// The socket of one held lock. Its folder goes when it is dropped.
pub(crate) struct SectionSocket {
    folder: PathBuf,
    listener: UnixListener,
    lock: String,
    token: u64,
    appending: Cell<bool>,
    appended: Cell<bool>,
    torn: Cell<bool>,
}

impl SectionSocket {
    /// Makes a socket that only this user can reach.
    ///
    /// # Errors
    ///
    /// Fails if no folder can be made in `XDG_RUNTIME_DIR` or the temporary folder.
    pub(crate) fn open(lock: &str, token: u64) -> io::Result<SectionSocket> {
        let folder = private_folder()?;
        let listener = UnixListener::bind(socket_in(&folder)).inspect_err(|_| remove(&folder))?;
        Ok(SectionSocket {
            folder,
            listener,
            lock: lock.to_owned(),
            token,
            appending: Cell::new(false),
            appended: Cell::new(false),
            torn: Cell::new(false),
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        socket_in(&self.folder)
    }

    /// Whether a joiner's data is being appended right now.
    pub(crate) fn is_appending(&self) -> bool {
        self.appending.get()
    }

    /// Whether any joiner's data went in.
    pub(crate) fn has_appended(&self) -> bool {
        self.appended.get()
    }

    /// Whether a joiner's data went in only in part, or perhaps, so that the section must not be applied.
    pub(crate) fn is_torn(&self) -> bool {
        self.torn.get()
    }

    /// Serves joiners until it is dropped.
    pub(crate) async fn serve(&self, section: &impl Appender) -> ! {
        loop {
            match self.listener.accept().await {
                // A joiner that misbehaves harms itself only, and it hears of that by its end of the stream.
                Ok((stream, _)) => _ = self.serve_one(stream, section).await,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn serve_one(&self, stream: UnixStream, section: &impl Appender) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        send(
            &mut stream,
            &Greeting {
                v: 1,
                lock: self.lock.clone(),
                token: self.token,
            },
        )
        .await?;
        let (file, data) = timeout(JOINER_PATIENCE, receive(&mut stream)).await??;
        let answer = match self.append_all(section, &file, data).await {
            Ok(()) => Joined {
                v: 1,
                ok: true,
                code: None,
                message: None,
            },
            Err(Failure { code, message }) => Joined {
                v: 1,
                ok: false,
                code: Some(code),
                message: Some(message),
            },
        };
        send(&mut stream, &answer).await
    }

    async fn append_all(
        &self,
        section: &impl Appender,
        file: &str,
        data: Bytes,
    ) -> Result<(), Failure> {
        self.appending.set(true);
        let result = append_in_pieces(section, file, data).await;
        self.appending.set(false);
        self.appended.set(self.appended.get() || result.is_ok());
        if let Err((failure, whole)) = &result
            && (!whole || failure.code == "unknown")
        {
            self.torn.set(true);
        }
        result.map_err(|(failure, _)| failure)
    }
}

impl Drop for SectionSocket {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

/// Appends what may be more than one append can hold; at a failure says whether nothing at all went in.
pub(crate) async fn append_in_pieces(
    section: &impl Appender,
    file: &str,
    mut data: Bytes,
) -> Result<(), (Failure, bool)> {
    let mut untouched = true;
    loop {
        let piece = data.split_to(data.len().min(APPEND_BYTES_MAX));
        section
            .append(file, piece)
            .await
            .map_err(|failure| (failure, untouched))?;
        untouched = false;
        if data.is_empty() {
            return Ok(());
        }
    }
}

async fn receive(stream: &mut BufReader<UnixStream>) -> io::Result<(String, Bytes)> {
    let mut line = Vec::new();
    (&mut *stream)
        .take(LINE_BYTES_MAX)
        .read_until(b'\n', &mut line)
        .await?;
    let join: Join = serde_json::from_slice(&line)?;
    let bytes = usize::try_from(join.bytes)
        .ok()
        .filter(|&bytes| bytes <= SECTION_BYTES_MAX)
        .ok_or_else(|| io::Error::other("more than a section may hold"))?;
    let mut data = Vec::with_capacity(bytes);
    stream.take(join.bytes).read_to_end(&mut data).await?;
    if data.len() < bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((join.file, data.into()))
}

async fn send(stream: &mut BufReader<UnixStream>, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.get_mut().write_all(&line).await
}

fn private_folder() -> io::Result<PathBuf> {
    let mut last = io::Error::other("no place for a socket");
    for base in bases() {
        for attempt in 0..16 {
            let name = format!(
                "holdfast-{}-{:x}-{attempt}",
                std::process::id(),
                nanoseconds()
            );
            let folder = base.join(name);
            if socket_in(&folder).as_os_str().len() > PATH_BYTES_MAX {
                break;
            }
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => return Ok(folder),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

/// Something that differs from call to call; what keeps others out is the folder's mode, not its name.
fn nanoseconds() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.subsec_nanos())
}

fn bases() -> impl Iterator<Item = PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    runtime
        .into_iter()
        .chain([std::env::temp_dir(), PathBuf::from("/tmp")])
        // A colon would split HOLDFAST_SECTION in the wrong place.
        .filter(|base| base.is_absolute() && !base.to_string_lossy().contains(':'))
}

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("section")
}

/// Removes the innermost socket of this process's environment, whose owner was killed and cannot.
pub(crate) fn remove_left_behind() {
    let sockets = std::env::var_os(VARIABLE).unwrap_or_default();
    let first = sockets.as_bytes().split(|&byte| byte == b':').next();
    let socket = first.map(OsStr::from_bytes).map(Path::new);
    if let Some(folder) = socket.and_then(Path::parent) {
        remove(folder);
    }
}

fn remove(folder: &Path) {
    _ = std::fs::remove_file(socket_in(folder));
    _ = std::fs::remove_dir(folder);
}
