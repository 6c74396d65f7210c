//! A disk that counts syncs and holds calls back on order: what stands behind which sync then shows without a clock.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::storage::{DirEntry, Disk, DiskFile, LockGuard, MemDisk, Operation, SharedFile};

#[derive(Clone, Debug)]
pub(super) struct GateDisk {
    pub(super) disk: MemDisk,
    gates: Arc<Gates>,
}

#[derive(Debug, Default)]
struct Gates {
    state: Mutex<State>,
    opened: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Calls of this kind on paths that contain this text wait.
    closed: Vec<(String, Operation)>,
    /// Calls that wait now.
    held: Vec<(String, Operation)>,
    /// The files that were synced, in order.
    synced: Vec<String>,
    /// New names by old ones.
    renamed: BTreeMap<String, String>,
}

impl GateDisk {
    pub(super) fn new() -> GateDisk {
        GateDisk {
            disk: MemDisk::new(),
            gates: Arc::default(),
        }
    }

    /// From now on such calls wait.
    pub(super) fn shut(&self, path_contains: &str, operation: Operation) {
        let gate = (path_contains.to_owned(), operation);
        self.gates.state().closed.push(gate);
    }

    /// Lets everything pass.
    pub(super) fn open_all(&self) {
        self.gates.state().closed.clear();
        self.gates.opened.notify_all();
    }

    /// Lets the calls of one gate pass.
    pub(super) fn open_gate(&self, path_contains: &str) {
        let mut state = self.gates.state();
        state.closed.retain(|(text, _)| text != path_contains);
        self.gates.opened.notify_all();
    }

    /// Whether such a call waits.
    pub(super) fn holds(&self, path_contains: &str) -> bool {
        let state = self.gates.state();
        state
            .held
            .iter()
            .any(|(path, _)| path.contains(path_contains))
    }

    /// How often files were synced whose path contains this text.
    pub(super) fn syncs(&self, path_contains: &str) -> usize {
        let state = self.gates.state();
        let synced = state.synced.iter();
        synced.filter(|path| path.contains(path_contains)).count()
    }
}

impl Gates {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn pass<T>(
        &self,
        path: &str,
        operation: Operation,
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state();
        let path = &state.renamed.get(path).cloned().unwrap_or(path.to_owned());
        let shut = |(text, kind): &(String, Operation)| *kind == operation && path.contains(text);
        if state.closed.iter().any(shut) {
            let held = (path.to_owned(), operation);
            state.held.push(held.clone());
            while state.closed.iter().any(shut) {
                state = self.opened.wait(state).unwrap();
            }
            let at = state.held.iter().position(|other| *other == held).unwrap();
            state.held.remove(at);
        }
        drop(state);
        let done = call()?;
        if operation == Operation::Sync {
            self.state().synced.push(path.to_owned());
        }
        Ok(done)
    }
}

impl GateDisk {
    fn file(&self, path: &str, file: SharedFile) -> SharedFile {
        Arc::new(GateFile {
            file,
            path: path.to_owned(),
            gates: self.gates.clone(),
        })
    }
}

impl Disk for GateDisk {
    fn open(&self, path: &str) -> io::Result<SharedFile> {
        Ok(self.file(path, self.disk.open(path)?))
    }

    fn open_read(&self, path: &str) -> io::Result<SharedFile> {
        self.open(path)
    }

    fn create(&self, path: &str) -> io::Result<SharedFile> {
        Ok(self.file(path, self.disk.create(path)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)?;
        let mut state = self.gates.state();
        state.renamed.insert(from.to_owned(), to.to_owned());
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let remove = || self.disk.remove(path);
        self.gates.pass(path, Operation::Name, remove)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn LockGuard>> {
        self.disk.lock(path)
    }
}

#[derive(Debug)]
struct GateFile {
    file: SharedFile,
    path: String,
    gates: Arc<Gates>,
}

impl DiskFile for GateFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn write_at_durable(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let write = || self.file.write_at_durable(bytes, offset);
        self.gates.pass(&self.path, Operation::Sync, write)
    }

    fn sync(&self) -> io::Result<()> {
        let sync = || self.file.sync();
        self.gates.pass(&self.path, Operation::Sync, sync)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.write_zeroes(offset, len)
    }

    fn drop_cache(&self, offset: u64, len: u64) {
        self.file.drop_cache(offset, len);
    }
}
