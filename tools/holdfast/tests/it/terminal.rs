//! `lock … -- CMD` in a terminal: CMD has the keyboard while it runs, and gives it back.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

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
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&keyboard).expect("granting");
        unlockpt(&keyboard).expect("unlocking");
        let name = ptsname(&keyboard, Vec::new()).expect("its name");
        let screen =
            open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("its other end");
        fcntl_setfl(&keyboard, OFlags::NONBLOCK).expect("not blocking");
        let end = |screen: &OwnedFd| Stdio::from(screen.try_clone().expect("another handle"));
        // util-linux' setsid makes the terminal the controlling one, which safe code here cannot.
        let process = Command::new("setsid")
            .args([
                "--ctty",
                "--wait",
                "sh",
                "-c",
                &script.replace("holdfast", env!("CARGO_BIN_EXE_holdfast")),
            ])
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
        "holdfast lock a -- sh -c 'echo in; sleep 60'; echo code-$?",
    );
    session.shows("in");
    session.types("\x03");
    session.shows("code-130");
    assert_eq!(session.exit_code(), Some(0));
}
