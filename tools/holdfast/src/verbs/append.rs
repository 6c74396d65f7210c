//! `append`: a section under the file's guard, or a part of the section of the `lock` around it.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use serde::Serialize;
use statemachine::{Answer, Query};

use crate::args::AppendArgs;
use crate::context::{Context, unexpected};
use crate::failure::Failure;
use crate::held::{self, Held, Receipt};
use crate::section::{self, SECTION_BYTES_MAX};
use crate::signals::{self, Signals};

#[derive(Serialize)]
struct Appended {
    file: String,
    bytes: u64,
    /// It went into the section of the lock around, which is still to be applied.
    joined: bool,
    /// The slot in which it was applied.
    slot: Option<u64>,
    /// The file's new length.
    length: Option<u64>,
}

pub(crate) async fn run(context: &Context, arguments: AppendArgs) -> Result<u8, Failure> {
    let AppendArgs {
        file,
        data,
        patience,
    } = arguments;
    let data = read(data)?;
    let Answer::File(fact) = context.query(&Query::Stat { file: file.clone() }).await?.1 else {
        return Err(unexpected("stat"));
    };
    let bytes = data.len() as u64;
    let sockets = std::env::var(section::VARIABLE).unwrap_or_default();
    let (joined, receipt) = if section::join(&sockets, &fact.guard, &file, &data).await? {
        (true, None)
    } else {
        let mut signals = Signals::catch(false)?;
        let session = context.session(None).await?;
        let appended = tokio::select! {
            receipt = in_own_section(context, &session, &fact.guard, &file, data, patience.limit()) => Ok(receipt),
            signal = signals.next() => Err(signal),
        };
        held::close(&session).await;
        match appended {
            Ok(receipt) => (false, Some(receipt?)),
            Err(signal) => return Ok(signals::exit_code(signal)),
        }
    };
    let length = receipt
        .as_ref()
        .and_then(|receipt| length_of(receipt, &file));
    let slot = receipt.map(|receipt| receipt.slot);
    if context.output.is_json() {
        context.output.object(Appended {
            file,
            bytes,
            joined,
            slot,
            length,
        })?;
    }
    Ok(0)
}

async fn in_own_section(
    context: &Context,
    session: &client::raw::Session,
    guard: &str,
    file: &str,
    data: Bytes,
    wait: Option<std::time::Duration>,
) -> Result<Receipt, Failure> {
    let held = Held::take(session, guard, None, wait, context.timeout, async |_| ()).await?;
    section::append_in_pieces(&held, file, data)
        .await
        .map_err(|(failure, _)| failure)?;
    held.release().await
}

fn length_of(receipt: &Receipt, file: &str) -> Option<u64> {
    receipt
        .lengths
        .iter()
        .find(|(name, _)| name == file)
        .map(|(_, length)| *length)
}

/// The data itself, or standard input.
fn read(data: OsString) -> Result<Bytes, Failure> {
    if data != "-" {
        return Ok(data.into_vec().into());
    }
    let mut bytes = Vec::new();
    let limit = SECTION_BYTES_MAX as u64 + 1;
    std::io::stdin()
        .lock()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::local("standard input", &error))?;
    if bytes.len() > SECTION_BYTES_MAX {
        let message = format!(
            "standard input has more than the {SECTION_BYTES_MAX} bytes that a section may hold"
        );
        return Err(Failure::new("section_too_large", message));
    }
    Ok(bytes.into())
}
