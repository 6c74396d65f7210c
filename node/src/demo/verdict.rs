//! The comparison at the end: every replica's files with each other, and with what was told.

use std::collections::BTreeMap;
use std::path::Path;

use super::ledger::Ledger;

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) files: usize,
    pub(super) bytes: usize,
    /// Sections, counted once for each file that they touch.
    pub(super) sections: usize,
}

/// Reads all files of all replicas.
///
/// # Errors
///
/// The first difference, loss, doubling or tear, in words.
pub(super) fn compare(folders: &[(u16, &Path)], ledger: &Ledger) -> Result<Compared, String> {
    let mut all = Vec::new();
    for (id, folder) in folders {
        let files = read_files(&folder.join("files")).map_err(|e| format!("replica {id}: {e}"))?;
        all.push((*id, files));
    }
    let Some(((first, files), others)) = all.split_first() else {
        return Err("there is no replica".into());
    };
    for (id, other) in others {
        same(*first, files, *id, other)?;
    }
    for file in ledger.files() {
        if !files.contains_key(&file) {
            return Err(format!("{file} is not there"));
        }
    }
    let mut compared = Compared::default();
    for (file, content) in files {
        compared.sections += ledger.check(file, &String::from_utf8_lossy(content))?;
        compared.files += 1;
        compared.bytes += content.len();
    }
    Ok(compared)
}

fn read_files(folder: &Path) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        files.insert(
            entry.file_name().to_string_lossy().into_owned(),
            std::fs::read(entry.path())?,
        );
    }
    Ok(files)
}

type Files = BTreeMap<String, Vec<u8>>;

fn same(first: u16, files: &Files, id: u16, other: &Files) -> Result<(), String> {
    if !files.keys().eq(other.keys()) {
        return Err(format!(
            "replicas {first} and {id} do not have the same files"
        ));
    }
    for (file, content) in files {
        let theirs = &other[file];
        let at = content.iter().zip(theirs).position(|(a, b)| a != b);
        let at = at.or((content.len() != theirs.len()).then(|| content.len().min(theirs.len())));
        if let Some(at) = at {
            return Err(format!(
                "{file} differs between replicas {first} and {id} from byte {at} on"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::Folder;

    #[test]
    fn a_single_byte_more_is_seen() {
        let folder = Folder::temporary().expect("a folder");
        let replicas = ["1", "2"].map(|id| folder.path().join(id));
        for replica in &replicas {
            std::fs::create_dir_all(replica.join("files")).expect("a folder");
            std::fs::write(replica.join("files/f"), "").expect("a file");
        }
        let folders = [(1, replicas[0].as_path()), (2, replicas[1].as_path())];
        let same = compare(&folders, &Ledger::default());
        assert_eq!(
            same,
            Ok(Compared {
                files: 1,
                bytes: 0,
                sections: 0
            })
        );
        std::fs::write(replicas[1].join("files/f"), "x").expect("a file");
        let different = compare(&folders, &Ledger::default());
        assert_eq!(
            different,
            Err("f differs between replicas 1 and 2 from byte 0 on".into())
        );
    }
}
