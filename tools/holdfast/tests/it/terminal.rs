//! `lock … -- CMD` in a terminal: CMD has the keyboard while it runs, and gives it back.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;

use crate::replica::Replica;

/// How long anything on a terminal may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process with a terminal of its own, which a test looks at and types on.
struct Session {
    keyboard: File,
    process: Child,
    seen: String,
}

impl Session {
    /// Runs a shell script in a new session whose terminal is a new one; `holdfast` in it is this very program.
    fn start(replica: &Replica, script: &str) -> Session {
        Session::start_script(
            replica,
            &script.replace("holdfast", env!("CARGO_BIN_EXE_holdfast")),
        )
    }

    fn start_script(replica: &Replica, script: &str) -> Session {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a terminal");
        grantpt(&keyboard).expect("granting");
        unlockpt(&keyboard).expect("unlocking");
        let name = ptsname(&keyboard, Vec::new()).expect("its name");
        let screen =
            open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("its other end");
        fcntl_setfl(&keyboard, OFlags::NONBLOCK).expect("not blocking");
        let end = |screen: &OwnedFd| Stdio::from(screen.try_clone().expect("another handle"));
        // util-linux' setsid makes the terminal the controlling one, which safe code here cannot.
        let process = Command::new("setsid")
            .args(["--ctty", "--wait", "sh", "-c", script])
            .env("HOLDFAST_ENDPOINTS", &replica.address)
            .env_remove("HOLDFAST_SECTION")
            .stdin(end(&screen))
            .stdout(end(&screen))
            .stderr(end(&screen))
            .spawn()
            .expect("setsid");
        Session {
            keyboard: keyboard.into(),
            process,
            seen: String::new(),
        }
    }

    /// An interactive shell with job control, and `holdfast` on its path.
    fn shell(replica: &Replica) -> Session {
        let folder = std::path::Path::new(env!("CARGO_BIN_EXE_holdfast")).parent();
        let folder = folder.expect("a folder").display();
        let script = format!("PATH={folder}:$PATH PS1='ready> ' exec bash --norc --noprofile -i");
        let mut session = Session::start_script(replica, &script);
        session.shows("ready> ");
        session
    }

    /// Types a line again and again until `text` is shown.
    #[track_caller]
    fn asks_until(&mut self, line: &str, text: &str) {
        let start = Instant::now();
        while !self.looks().contains(text) {
            assert!(
                start.elapsed() < PATIENCE,
                "{text:?} is not in {:?}",
                self.seen
            );
            self.types(line);
            std::thread::sleep(Duration::from_millis(100));
        }
        self.shows(text);
    }

    fn looks(&mut self) -> &str {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = self.keyboard.read(&mut bytes) {
            self.seen
                .push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        &self.seen
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("typing");
    }

    /// Waits until the screen shows `text`, and forgets what was shown up to then.
    #[track_caller]
    fn shows(&mut self, text: &str) {
        let start = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{text:?} is not in {:?}",
                self.seen
            );
            let mut bytes = [0; 1024];
            match self.keyboard.read(&mut bytes) {
                Ok(length) => self
                    .seen
                    .push_str(&String::from_utf8_lossy(&bytes[..length])),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn exit_code(mut self) -> Option<i32> {
        self.process.wait().expect("its end").code()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

#[test]
fn the_command_reads_the_keyboard_and_gives_it_back() {
    let replica = Replica::start();
    let script = "holdfast lock a -- sh -c 'echo in; read x; echo got-$x'; echo out; read y; echo then-$y; exit 5";
    let mut session = Session::start(&replica, script);
    session.shows("in");
    session.types("one\n");
    session.shows("got-one");
    session.shows("out");
    session.types("two\n");
    session.shows("then-two");
    assert_eq!(session.exit_code(), Some(5));
}

#[test]
fn ctrl_c_reaches_the_command() {
    let replica = Replica::start();
    let mut session = Session::start(
        &replica,
        "holdfast lock a -- sh -c 'echo in; exec sleep 60'; echo code-$?",
    );
    session.shows("in");
    session.types("\x03");
    session.shows("code-130");
    assert_eq!(session.exit_code(), Some(0));
}

/// A pipe by name, for a command of the shell's own to wait at: a shell that is just starting another program, by
/// `vfork`, cannot be stopped by Ctrl-Z.
fn pipe_in(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).expect("a named pipe");
    path
}

/// Another session gets the lock, so the service has taken it from its holder.
fn lock_elsewhere(replica: &Replica, lock: &str, script: &str) -> String {
    let output = replica
        .holdfast()
        .args(["lock", lock, "--lease", "2s", "--", "sh", "-c", script])
        .stdin(Stdio::null())
        .output()
        .expect("lock");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_shell_survives_ctrl_z_and_bg() {
    let replica = Replica::start();
    let folder = TempDir::new().expect("a folder");
    let mut session = Session::shell(&replica);
    let pipe = pipe_in(&folder);
    session.types(&format!(
        "holdfast lock a -- sh -c 'echo i\"\"n; read x < {}; echo o\"\"ut'\n",
        pipe.display()
    ));
    session.shows("in\r");
    session.types("\x1a");
    session.shows("Stopped");
    session.shows("ready> ");
    session.types("bg\n");
    session.shows("ready> ");
    std::fs::write(pipe, "go\n").expect("writing");
    session.shows("out");
    session.asks_until("\n", "Done");
    session.types("echo al\"\"ive\n");
    session.shows("alive");
    session.types("exit 7\n");
    assert_eq!(session.exit_code(), Some(7));
}

/// In the background, `cat` is stopped as it reads, and its job with it; `fg` gives it the keyboard.
#[test]
fn a_reader_in_the_background_stops_until_it_is_brought_forward() {
    let replica = Replica::start();
    let mut session = Session::shell(&replica);
    session.types("holdfast lock a -- cat &\n");
    session.asks_until("jobs\n", "Stopped");
    session.types("fg\n");
    session.shows("holdfast lock a -- cat");
    // Once as the terminal echoes it, once as cat does; what is typed before the shell has let go may be lost.
    session.asks_until("word\n", "word\r\nword");
    session.types("\x04");
    session.shows("ready> ");
    session.types("echo code-$?\n");
    session.shows("code-0");
}

/// A pipe's other end may want the keyboard, as `less` does. It gets it, and does not stop the lock's keeper.
#[test]
fn the_rest_of_a_pipeline_may_read_the_keyboard() {
    let replica = Replica::start();
    let folder = TempDir::new().expect("a folder");
    let mut session = Session::shell(&replica);
    let mark = folder.path().join("go");
    let wait = format!("while [ ! -e {} ]; do sleep 0.02; done", mark.display());
    session.types(&format!(
        "holdfast lock a -- sh -c 'echo one; {wait}; echo two' | sh -c 'read x; read y </dev/tty; echo $x-$y; touch {}; cat'\n",
        mark.display()
    ));
    session.types("key\n");
    session.shows("one-key");
    session.shows("two");
    session.shows("ready> ");
}

/// SIGTERM comes, with time to tidy up, while the lock is still held; whoever runs `fg` afterwards finds all done.
#[test]
fn a_stopped_command_ends_before_its_lock_does() {
    let replica = Replica::start();
    let folder = TempDir::new().expect("a folder");
    let tidy = folder.path().join("tidy");
    let mut session = Session::shell(&replica);
    session.types(&format!(
        "holdfast lock a --lease 2s --kill-after 1s -- \
         sh -c 'trap \"echo tid >> {0}; sleep 0.1; echo ied >> {0}; exit 0\" TERM; echo i\"\"n; read x < {1}'\n",
        tidy.display(),
        pipe_in(&folder).display()
    ));
    session.shows("in\r");
    session.types("\x1a");
    session.shows("Stopped");
    let seen = lock_elsewhere(&replica, "a", &format!("cat {}", tidy.display()));
    assert_eq!(seen, "tid\nied\n");
    session.types("fg\n");
    session.shows("lost");
    session.types("echo code-$?\n");
    session.shows("code-122");
}
