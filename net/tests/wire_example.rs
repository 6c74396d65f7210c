//! Prints the example of `WIRE.md`, so that the document and the code cannot drift apart.

use std::fmt::Write;

use bytes::{Bytes, BytesMut};
use expect_test::expect_file;
use net::{FrameCodec, Hello, HelloRole, Request, RequestBody, Response, ResponseBody, Sealed};
use tokio_util::codec::Encoder;

fn dump(out: &mut String, who: &str, body: Bytes) {
    let mut wire = BytesMut::new();
    FrameCodec.encode(body, &mut wire).expect("short");
    writeln!(out, "{who}").expect("writes");
    for (row, bytes) in wire.chunks(16).enumerate() {
        let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = bytes.iter().map(|&byte| {
            if byte.is_ascii_graphic() {
                byte as char
            } else {
                '.'
            }
        });
        let text: String = text.collect();
        writeln!(out, "  {:04x}  {:<47}  {text}", row * 16, hex.join(" ")).expect("writes");
    }
}

#[test]
fn the_example_in_the_document_is_what_is_sent() {
    let mut out = String::new();
    let client = HelloRole::Client { name: "ada".into() };
    dump(
        &mut out,
        "client: hello, cluster not known yet",
        Hello::new(0, client).encode(),
    );
    let server = HelloRole::Server {
        node: 2,
        label: "test".into(),
    };
    dump(
        &mut out,
        "server: hello, node 2 of cluster 0x51",
        Hello::new(0x51, server).encode(),
    );
    let command = Bytes::from_static(b"(a command)");
    let request = Request {
        id: 1,
        body: RequestBody::Command(command),
    };
    dump(&mut out, "client: request 1, a command", request.encode());
    let bytes = Bytes::from_static(b"(an outcome)");
    let body = ResponseBody::Outcome {
        slot: 9,
        stamp_ms: Some(1234),
        bytes,
    };
    dump(
        &mut out,
        "server: response 1, the outcome of slot 9",
        Response { id: 1, body }.encode(),
    );
    let body = ResponseBody::Lost {
        session: 7,
        slot: 12,
        bytes: Bytes::from_static(b"(a refusal)"),
    };
    let id = Response::UNASKED;
    dump(
        &mut out,
        "server: unasked, what session 7 lost in slot 12",
        Response { id, body }.encode(),
    );
    dump(
        &mut out,
        "client: goodbye",
        Sealed::goodbye().body().clone(),
    );
    expect_file!["wire_example.txt"].assert_eq(&out);
    assert!(
        include_str!("../WIRE.md").contains(&out),
        "WIRE.md shows another example"
    );
}
