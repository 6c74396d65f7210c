//! Case 10: large sections and odd bytes.

use serde_json::json;
use tests::harness::Cluster;
use tests::harness::words::{DEFAULT_LOCK, append};

const BYTES_MAX: usize = 1 << 20;

#[test]
fn a_section_of_two_thousand_appends_over_fifty_files_is_whole() {
    const APPENDS: usize = 2_000;
    const FILES: usize = 50;
    let cluster = Cluster::start(3);
    let client = cluster.client("C1");
    client.acquire();
    let names: Vec<String> = (0..FILES).map(|file| format!("file_{file}")).collect();
    for line in 0..APPENDS {
        client.append(&names[line % FILES], &format!("line {line}\n"));
    }
    let before = cluster.equal_files();
    assert!(
        before.values().all(Vec::is_empty),
        "nothing shows before the release"
    );
    let released = client.release();
    assert_eq!(
        released.0["lengths"].as_object().map(serde_json::Map::len),
        Some(FILES)
    );
    let files = cluster.equal_files();
    for (number, name) in names.iter().enumerate() {
        let expected: String = (number..APPENDS)
            .step_by(FILES)
            .map(|line| format!("line {line}\n"))
            .collect();
        assert_eq!(String::from_utf8_lossy(&files[name]), expected, "{name}");
    }
    cluster.check_sections();
}

#[test]
fn odd_bytes_are_kept_verbatim() {
    // Newline, NUL, 0xFF, and bytes that are no UTF-8, in base64.
    const ODD: [u8; 9] = [b'\n', 0, 0xff, 0xfe, b'\r', b'"', b'\\', 0xc3, 0x28];
    const ODD_BASE64: &str = "CgD//g0iXMMo";
    let cluster = Cluster::start(3);
    let client = cluster.client("C1");
    client.acquire();
    let odd = json!(
        {"op": "append", "file": "file_7", "data_b64": ODD_BASE64, "lock": DEFAULT_LOCK}
    );
    client.done(odd);
    client.append("file_7", "ä\u{0}\n");
    client.release();
    let expected = [&ODD[..], "ä\u{0}\n".as_bytes()].concat();
    assert_eq!(cluster.equal_files()["file_7"], expected);
    let read = client.done(json!({"op": "cat", "file": "file_7", "length": ODD.len()}));
    assert_eq!(
        read.0["data_b64"], ODD_BASE64,
        "what is no text comes as base64"
    );
}

#[test]
fn what_is_too_large_is_refused_with_the_limit_named_and_spoils_nothing() {
    let cluster = Cluster::start(3);
    let client = cluster.client("C1");
    client.acquire();
    client.append("file_0", "A");
    let refused = client.refused(append("file_0", &"x".repeat(BYTES_MAX + 1)), "too_large");
    let message = refused.0["message"].as_str().unwrap_or_default();
    for number in [BYTES_MAX, BYTES_MAX + 1] {
        assert!(
            message.contains(&number.to_string()),
            "limit and value are named: {message}"
        );
    }
    client.refused(append("no_such_file", "x"), "no_such_file");
    client.append("file_1", &"y".repeat(BYTES_MAX));
    client.append("file_0", "A");
    client.release();
    let files = cluster.equal_files();
    assert_eq!(files["file_0"], b"AA");
    assert_eq!(files["file_1"].len(), BYTES_MAX);
    cluster.check_order();
}
