//! `cat`: what a file holds, and what is added to it.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use statemachine::{Answer, Query};

use crate::args::CatArgs;
use crate::context::{Context, unexpected};
use crate::failure::Failure;
use crate::output::write_out;
use crate::shell::data_field;

/// Read at a time.
const PIECE_BYTES: u32 = 1 << 20;

/// How often `--follow` looks for more.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

#[derive(Serialize)]
struct Piece<'a> {
    file: &'a str,
    offset: u64,
    length: usize,
    file_length: u64,
    /// `data`, or `data_b64` if it is not UTF-8.
    #[serde(flatten)]
    data: Map<String, Value>,
    slot: u64,
}

pub(crate) async fn run(context: &Context, arguments: CatArgs) -> Result<(), Failure> {
    let CatArgs {
        file,
        mut offset,
        length,
        follow,
        stale,
    } = arguments;
    let end = length.map_or(u64::MAX, |length| offset.saturating_add(length));
    let mut first = true;
    while offset < end || first {
        let wanted = u64::from(PIECE_BYTES).min(end - offset) as u32;
        let piece = read(context, &file, offset, wanted, stale).await?;
        let nothing = piece.data.is_empty();
        if !nothing || first {
            print(context, &file, offset, &piece)?;
        }
        first = false;
        offset += piece.data.len() as u64;
        match (nothing, follow) {
            (true, false) => return Ok(()),
            (true, true) => tokio::time::sleep(LOOK_AGAIN).await,
            (false, _) if offset >= piece.file_length && !follow => return Ok(()),
            (false, _) => {}
        }
    }
    Ok(())
}

struct Read {
    slot: u64,
    file_length: u64,
    data: Bytes,
}

async fn read(
    context: &Context,
    file: &str,
    offset: u64,
    len: u32,
    stale: bool,
) -> Result<Read, Failure> {
    let query = Query::Read {
        file: file.to_owned(),
        offset,
        len,
    };
    let (slot, answer) = if stale {
        context.link.query_stale(&query, context.timeout).await?
    } else {
        context.link.query(&query, context.timeout).await?
    };
    match answer {
        Answer::Data { file_len, data, .. } => Ok(Read {
            slot: slot.0,
            file_length: file_len,
            data,
        }),
        _ => Err(unexpected("read")),
    }
}

fn print(context: &Context, file: &str, offset: u64, read: &Read) -> Result<(), Failure> {
    if !context.output.is_json() {
        return write_out(&read.data);
    }
    context.output.object(Piece {
        file,
        offset,
        length: read.data.len(),
        file_length: read.file_length,
        data: Map::from_iter([data_field(&read.data, false)]),
        slot: read.slot,
    })
}
