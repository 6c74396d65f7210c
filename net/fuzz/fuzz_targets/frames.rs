//! Any bytes as a stream of frames, cut anywhere: no panic, and what comes out goes in again.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use net::FrameCodec;
use tokio_util::codec::{Decoder, Encoder};

fuzz_target!(|parts: Vec<Vec<u8>>| {
    let mut source = BytesMut::new();
    for part in parts {
        source.extend_from_slice(&part);
        while let Ok(Some(body)) = FrameCodec.decode(&mut source) {
            let mut wire = BytesMut::new();
            FrameCodec.encode(body.clone(), &mut wire).expect("was a frame before");
            assert_eq!(FrameCodec.decode(&mut wire).expect("sound"), Some(body));
        }
    }
});
