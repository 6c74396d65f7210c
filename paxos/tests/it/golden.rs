//! The form of golden scripts, whatever they are about.
//!
//! A script is blocks apart by blank lines. A block is comments, commands, `---` and the recorded
//! answer. With `UPDATE` set the answers are recorded anew.

use std::path::Path;

/// Runs every script of a folder of this crate; `fresh` makes the interpreter of one script.
pub(crate) fn run_folder<I: FnMut(&str) -> String>(folder: &Path, fresh: impl Fn() -> I) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&folder).expect("the folder of scripts");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("a script").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|ext| ext == "txt"));
    paths.sort();
    assert!(!paths.is_empty(), "no scripts in {}", folder.display());
    for path in paths {
        let script = std::fs::read_to_string(&path).expect("a readable script");
        let answered = replay(&script, fresh());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, answered).expect("a writable script");
        } else if script != answered {
            let at = script
                .lines()
                .zip(answered.lines())
                .position(|(a, b)| a != b);
            let at = at.unwrap_or(script.lines().count().min(answered.lines().count()));
            panic!(
                "{} line {}:\nrecorded: {}\nanswered: {}\nUPDATE=1 records anew",
                path.display(),
                at + 1,
                script.lines().nth(at).unwrap_or("(end)"),
                answered.lines().nth(at).unwrap_or("(end)"),
            );
        }
    }
}

fn replay(script: &str, mut interpret: impl FnMut(&str) -> String) -> String {
    let mut answered = String::new();
    for block in script.split("\n\n") {
        let block = block.trim_matches('\n');
        if block.is_empty() {
            continue;
        }
        if !answered.is_empty() {
            answered.push('\n');
        }
        let (mut answer, mut any) = (String::new(), false);
        for line in block.lines().take_while(|line| *line != "---") {
            answered.push_str(line);
            answered.push('\n');
            if !line.starts_with('#') && !line.trim().is_empty() {
                any = true;
                answer.push_str(&interpret(line));
            }
        }
        if any {
            answered.push_str("---\n");
            answered.push_str(if answer.is_empty() { "ok\n" } else { &answer });
        }
    }
    answered
}
