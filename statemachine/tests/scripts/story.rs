//! The form of a script: blocks of comments and commands, with their outcome.

/// Writes the script anew, with what each block's commands came to.
pub(crate) fn retell(told: &str, mut play: impl FnMut(&str) -> Vec<String>) -> String {
    let mut out = String::new();
    let mut outcome: Option<Vec<String>> = None;
    let mut lines = told.lines();
    while let Some(line) = lines.next() {
        match line {
            "---" => {
                let found = outcome.take().unwrap_or_default();
                out.push_str("---\n");
                found
                    .iter()
                    .for_each(|line| out.push_str(&format!("{line}\n")));
                // What was told so far is left out, up to the empty line that ends it.
                while lines.next().is_some_and(|line| !line.is_empty()) {}
                out.push('\n');
            }
            _ => {
                out.push_str(&format!("{line}\n"));
                if !line.is_empty() && !line.starts_with('#') {
                    outcome.get_or_insert_default().extend(play(line));
                }
            }
        }
    }
    assert!(
        outcome.is_none(),
        "the last commands have no --- below them"
    );
    // One newline at the end, whatever the last block left.
    format!("{}\n", out.trim_end())
}
