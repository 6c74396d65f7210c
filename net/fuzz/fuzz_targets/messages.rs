//! Any bytes as a greeting, a request and a response: no panic, and what decodes encodes to the
//! same bytes.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use net::{Hello, Request, Response};

fuzz_target!(|body: &[u8]| {
    let body = Bytes::copy_from_slice(body);
    if let Ok(hello) = Hello::decode(body.clone()) {
        assert_eq!(hello.encode(), body);
    }
    if let Ok(request) = Request::decode(body.clone()) {
        assert_eq!(request.encode(), body);
    }
    if let Ok(response) = Response::decode(body.clone()) {
        assert_eq!(response.encode(), body);
    }
});
