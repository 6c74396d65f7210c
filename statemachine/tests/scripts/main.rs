//! Golden scripts: stories of clients and locks, with what the machine answered written below.
//!
//! A file in `testscripts/` is a list of blocks. Lines starting with `#` tell the story, the lines
//! after them make it happen, and what lies below `---` is what came of it, up to an empty line:
//!
//! ```text
//! # Bob asks while Ann holds the lock: he waits.
//! bob acquire default
//! ---
//! 4  bob#1 waits, position 1
//! ```
//!
//! `UPDATE=1 cargo test -p statemachine --test scripts` writes the files anew; the difference is
//! then read like code. The commands are listed in `stage.rs`.

mod client;
mod line;
mod stage;
mod story;
mod tell;

use std::path::{Path, PathBuf};

#[test]
fn stories_end_as_they_are_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts");
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of scripts")
        .map(|entry| entry.expect("an entry of the folder").path())
        .collect();
    scripts.sort();
    assert!(scripts.len() > 10, "the scripts have gone");
    let update = std::env::var_os("UPDATE").is_some();
    let failed: Vec<String> = scripts
        .iter()
        .filter_map(|path| check(path, update))
        .collect();
    assert!(
        failed.is_empty(),
        "{}\nUPDATE=1 accepts what was found",
        failed.join("\n")
    );
}

/// Runs one script; what is wrong with it, if anything.
fn check(path: &Path, update: bool) -> Option<String> {
    let told = std::fs::read_to_string(path).expect("a readable script");
    let mut stage = stage::Stage::new();
    let found = story::retell(&told, |line| stage.play(line));
    if found == told {
        return None;
    }
    if update {
        std::fs::write(path, found).expect("a writable script");
        return None;
    }
    let differs = |(a, b): &(&str, &str)| a != b;
    let line = told
        .lines()
        .zip(found.lines())
        .take_while(|pair| !differs(pair))
        .count();
    let at = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
    let (name, told, found) = (path.display(), at(&told), at(&found));
    Some(format!(
        "{name}:{}\n  told:  {told}\n  found: {found}",
        line + 1
    ))
}
