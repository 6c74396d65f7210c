//! What changes nothing: cat, lock_status, files, status; from whoever leads, or from one replica.

use std::time::Duration;

use client::{Endpoint, Error};
use serde_json::{Value, json};
use statemachine::{Answer, FileFact, PAGE_MAX, Query, Slot};

use super::Shell;
use super::answer::{Ending, Fields, Trouble, data_field, fields};
use super::request::Op;
use crate::context::unexpected;
use crate::facts::{FileRow, LockObject, ReplicaRow};
use crate::survey::survey;

/// Who is asked, and for how long.
struct Asked<'a> {
    endpoint: Option<&'a Endpoint>,
    stale: bool,
    timeout: Duration,
}

impl Shell {
    pub(super) async fn read(
        &self,
        op: Op,
        endpoint: Option<&Endpoint>,
        stale: bool,
        timeout: Duration,
    ) -> Ending {
        let asked = Asked {
            endpoint,
            stale,
            timeout,
        };
        let result = match op {
            Op::Cat {
                file,
                offset,
                length,
                base64,
            } => self.cat(&asked, file, offset, length, base64).await,
            Op::LockStatus { lock } => self.lock_status(&asked, lock).await,
            Op::Files => self.files(&asked).await,
            Op::Status => self.status(&asked).await,
            _ => Err(Trouble::bad_request("this op reads nothing")),
        };
        result.map_or_else(Ending::Failed, Ending::Done)
    }

    async fn query(&self, asked: &Asked<'_>, query: &Query) -> Result<(Slot, Answer), Error> {
        let (link, timeout) = (&self.context.link, asked.timeout);
        match asked.endpoint {
            Some(endpoint) => link.query_at(endpoint, query, asked.stale, timeout).await,
            None if asked.stale => link.query_stale(query, timeout).await,
            None => link.query(query, timeout).await,
        }
    }

    async fn cat(
        &self,
        asked: &Asked<'_>,
        file: String,
        offset: u64,
        length: u64,
        base64: bool,
    ) -> Result<Fields, Trouble> {
        // `length` was checked when the line was read.
        let len = u32::try_from(length).unwrap_or(u32::MAX);
        let (slot, answer) = self
            .query(asked, &Query::Read { file, offset, len })
            .await?;
        let Answer::Data {
            offset,
            file_len,
            data,
        } = answer
        else {
            return Err(unexpected("read").into());
        };
        let mut told =
            fields(json!({"offset": offset, "length": data.len(), "file_length": file_len}));
        told.extend([data_field(&data, base64)]);
        told.insert("slot".to_owned(), slot.0.into());
        Ok(told)
    }

    async fn lock_status(&self, asked: &Asked<'_>, lock: String) -> Result<Fields, Trouble> {
        let (slot, Answer::Lock(status)) = self.query(asked, &Query::LockStatus { lock }).await?
        else {
            return Err(unexpected("lock status").into());
        };
        Ok(fields(LockObject::new(status, slot.0)))
    }

    async fn files(&self, asked: &Asked<'_>) -> Result<Fields, Trouble> {
        let mut files: Vec<FileFact> = Vec::new();
        loop {
            let after = files.last().map(|file| file.name.clone());
            let query = Query::Files {
                after,
                limit: PAGE_MAX,
            };
            let (slot, Answer::Files(page)) = self.query(asked, &query).await? else {
                return Err(unexpected("files").into());
            };
            let more = page.more && !page.items.is_empty();
            files.extend(page.items);
            if !more {
                let rows: Vec<_> = files.into_iter().map(FileRow::from).collect();
                return Ok(fields(json!({"files": rows, "slot": slot.0})));
            }
        }
    }

    async fn status(&self, asked: &Asked<'_>) -> Result<Fields, Trouble> {
        let rows = match asked.endpoint {
            Some(endpoint) => {
                let status = self.context.link.status_at(endpoint, asked.timeout).await?;
                vec![ReplicaRow::from(status)]
            }
            None => survey(&self.context, asked.timeout).await?,
        };
        let replicas: Value = json!(rows);
        Ok(fields(json!({"replicas": replicas})))
    }
}
