//! Who wins among the layers, and what is said about values that cannot be meant.

use std::collections::BTreeMap;

use super::*;

fn layers(
    flags: &[(&'static str, &str)],
    environment: &[(&str, &str)],
    file: &str,
) -> Result<Layers, UsageError> {
    let flags = flags
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect::<BTreeMap<_, _>>();
    let lookup = |name: &str| {
        environment
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, v)| (*v).to_owned())
    };
    let mut layers = Layers::new(flags, lookup);
    let path = tempfile();
    std::fs::write(&path.0, file).expect("write a configuration file");
    layers.read_file(&path.0)?;
    Ok(layers)
}

/// A file name of this test alone, removed at its end.
struct TempFile(std::path::PathBuf);

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn tempfile() -> TempFile {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    TempFile(std::env::temp_dir().join(format!(
        "holdfast-config-{}-{number}.toml",
        std::process::id()
    )))
}

#[track_caller]
fn refusal(flags: &[(&'static str, &str)], environment: &[(&str, &str)], file: &str) -> String {
    match layers(flags, environment, file).and_then(|layers| ServeConfig::resolve(&layers)) {
        Ok(_) => panic!("accepted"),
        Err(why) => why.to_string(),
    }
}

#[track_caller]
fn shown(
    flags: &[(&'static str, &str)],
    environment: &[(&str, &str)],
    file: &str,
    name: &str,
) -> (String, String) {
    let layers = layers(flags, environment, file).expect("layers");
    let (_, shown) = ServeConfig::resolve(&layers).expect("a configuration");
    let row = shown
        .iter()
        .find(|shown| shown.setting.name == name)
        .expect("a row");
    (row.value.clone(), row.origin.to_string())
}

#[test]
fn each_layer_hides_the_ones_below() {
    let flag = [("files", "1")];
    let environment = [("HOLDFAST_FILES", "2")];
    let file = "files = 3";
    let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(shown(&flag, &environment, file, "files"), pair("1", "flag"));
    assert_eq!(
        shown(&[], &environment, file, "files"),
        pair("2", "environment")
    );
    assert_eq!(
        shown(&[], &[("HOLDFAST_FILES", "")], file, "files"),
        pair("3", "file")
    );
    assert_eq!(shown(&[], &[], "", "files"), pair("100", "default"));
}

#[test]
fn defaults_follow_the_id() {
    let (config, _) = ServeConfig::resolve(&layers(&[("id", "3")], &[], "").unwrap()).unwrap();
    assert_eq!(config.data, std::path::Path::new("./holdfast-data/3"));
    assert_eq!(
        [config.listen_client, config.listen_peer, config.listen_http],
        ["127.0.0.1:7403", "127.0.0.1:7413", "127.0.0.1:7423"]
    );
}

#[test]
fn it_listens_for_peers_at_its_own_entry() {
    let flags = [("id", "2"), ("peers", "1=a:1,2=127.0.0.1:99,3=c:3")];
    let (config, _) = ServeConfig::resolve(&layers(&flags, &[], "").unwrap()).unwrap();
    assert_eq!(config.listen_peer, "127.0.0.1:99");
    let flags = [
        ("id", "2"),
        ("peers", "1=a:1,2=127.0.0.1:99,3=c:3"),
        ("listen-peer", "127.0.0.1:98"),
    ];
    let (config, _) = ServeConfig::resolve(&layers(&flags, &[], "").unwrap()).unwrap();
    assert_eq!(config.listen_peer, "127.0.0.1:98");
}

#[test]
fn a_bad_value_is_named_with_its_place() {
    assert_eq!(
        refusal(&[("files", "many")], &[], ""),
        "--files: `many` is not a whole number"
    );
    assert_eq!(
        refusal(&[], &[("HOLDFAST_DEFAULT_LEASE", "1ms")], ""),
        "--default-lease: 1ms is out of range, 500ms to 1day (environment HOLDFAST_DEFAULT_LEASE)"
    );
    assert!(refusal(&[], &[], "fils = 3").ends_with("`fils` is not a setting"));
    assert!(
        refusal(&[], &[], "files = [3]")
            .ends_with("`files` is a array, expected a string or a number")
    );
    assert!(refusal(&[], &[], "files = ").contains("configuration file"));
}

#[test]
fn settings_are_checked_against_each_other() {
    assert_eq!(
        refusal(&[("id", "4"), ("peers", "1=a:1,2=b:2")], &[], ""),
        "--peers: replica 4 itself is not among 1, 2"
    );
    assert_eq!(
        refusal(&[("heartbeat", "200ms")], &[], ""),
        "--heartbeat: 200ms is more than a quarter of --election-timeout, which is 500ms"
    );
    assert!(
        refusal(&[("listen-client", "0.0.0.0:7401")], &[], "")
            .contains("give --advertise-client too")
    );
}

#[test]
fn an_id_too_large_for_the_default_ports_says_so() {
    assert_eq!(
        refusal(&[("id", "65535")], &[], ""),
        "--listen-client: `127.0.0.1:72935` is not of the form HOST:PORT (default)"
    );
}

#[test]
fn what_is_printed_can_be_read_back() {
    let flags = [
        ("id", "2"),
        ("peers", "1=a:1,2=b:2"),
        ("cluster", "a \"b\" \\ c"),
    ];
    let (_, first) = ServeConfig::resolve(&layers(&flags, &[], "").unwrap()).unwrap();
    let printed = first.iter().map(Shown::line).collect::<Vec<_>>().join("\n");
    let (_, second) = ServeConfig::resolve(&layers(&[], &[], &printed).unwrap()).unwrap();
    let values = |rows: &[Shown]| rows.iter().map(|row| row.value.clone()).collect::<Vec<_>>();
    assert_eq!(values(&first), values(&second));
    assert!(second.iter().all(|row| row.origin.to_string() == "file"));
}

/// A word that is no level would be taken for the name of a part of the program, and silence all others.
#[test]
fn a_mistyped_log_level_is_refused() {
    for level in ["foo", "inof", "info,node", ""] {
        let why = refusal(&[("log-level", level)], &[], "");
        assert!(why.contains("log level"), "{level:?}: {why}");
    }
    for level in ["warn", "off", "info,node=debug", "node::server=trace"] {
        let layers = layers(&[("log-level", level)], &[], "").expect("layers");
        assert!(ServeConfig::resolve(&layers).is_ok(), "{level}");
    }
}
