//! `file`: list, create, remove, stat.

use client::raw::Session;
use statemachine::{Answer, FileFact, Op, PAGE_MAX, Query};

use crate::args::FileVerb;
use crate::context::{Context, unexpected};
use crate::facts::FileRow;
use crate::failure::Failure;
use crate::held;

pub(crate) async fn run(context: &Context, verb: FileVerb) -> Result<(), Failure> {
    match verb {
        FileVerb::List => {
            let rows: Vec<_> = all(context).await?.into_iter().map(FileRow::from).collect();
            context.output.rows(&rows)
        }
        FileVerb::Create { file, guard } => {
            change(
                context,
                Op::CreateFile {
                    file: file.clone(),
                    guard,
                },
            )
            .await?;
            show_json(context, file).await
        }
        FileVerb::Remove { file } => change(context, Op::RemoveFile { file }).await,
        FileVerb::Stat { file } => {
            let row = stat(context, file).await?;
            context.output.rows(&[row])
        }
    }
}

async fn all(context: &Context) -> Result<Vec<FileFact>, Failure> {
    let mut files: Vec<FileFact> = Vec::new();
    loop {
        let after = files.last().map(|file| file.name.clone());
        let Answer::Files(page) = context
            .query(&Query::Files {
                after,
                limit: PAGE_MAX,
            })
            .await?
            .1
        else {
            return Err(unexpected("files"));
        };
        let more = page.more && !page.items.is_empty();
        files.extend(page.items);
        if !more {
            return Ok(files);
        }
    }
}

async fn stat(context: &Context, file: String) -> Result<FileRow, Failure> {
    match context.query(&Query::Stat { file }).await?.1 {
        Answer::File(fact) => Ok(fact.into()),
        _ => Err(unexpected("stat")),
    }
}

/// Programs learn what came of it; people see that nothing went wrong.
async fn show_json(context: &Context, file: String) -> Result<(), Failure> {
    if context.output.is_json() {
        context.output.object(stat(context, file).await?)
    } else {
        Ok(())
    }
}

/// One command in a session of its own.
pub(super) async fn change(context: &Context, op: Op) -> Result<(), Failure> {
    let session: Session = context.session(None).await?;
    let result = session.start(op).wait(context.timeout).await;
    held::close(&session).await;
    result.map(drop).map_err(Failure::from)
}
