use super::*;
use proptest::prelude::*;

fn wire(bodies: &[Vec<u8>]) -> BytesMut {
    let mut out = BytesMut::new();
    for body in bodies {
        FrameCodec
            .encode(Bytes::copy_from_slice(body), &mut out)
            .expect("below the limit");
    }
    out
}

/// Feeds `bytes` and returns the bodies found before the first fault, and that fault.
fn decode_all(bytes: &[u8]) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut source = BytesMut::from(bytes);
    let mut bodies = Vec::new();
    loop {
        match FrameCodec.decode(&mut source) {
            Ok(Some(body)) => bodies.push(body.to_vec()),
            Ok(None) => return (bodies, None),
            Err(fault) => return (bodies, Some(fault)),
        }
    }
}

/// A stream can be cut anywhere: whole frames come out, the rest waits.
#[test]
fn cut_at_every_byte() {
    let bodies = [vec![1; 5], vec![], vec![3; 30]];
    let whole = wire(&bodies);
    let ends = [13, 21, 59];
    for cut in 0..=whole.len() {
        let expected = ends.iter().filter(|&&end| end <= cut).count();
        let (found, fault) = decode_all(&whole[..cut]);
        assert!(fault.is_none(), "cut at {cut}: {fault:?}");
        assert_eq!(found, bodies[..expected], "cut at {cut}");
    }
}

/// No flipped bit yields another body than the one sent.
#[test]
fn every_flipped_bit_is_noticed_or_waits_for_more() {
    let sound = wire(&[b"a body".to_vec()]);
    for bit in 0..sound.len() * 8 {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (found, fault) = decode_all(&bytes);
        assert!(found.is_empty(), "bit {bit} went unnoticed");
        let longer = bit < 32 && fault.is_none();
        assert!(
            fault.is_some() || longer,
            "bit {bit}: neither fault nor waiting"
        );
    }
}

#[test]
fn length_is_checked_before_anything_is_reserved() {
    for length in [0, 3, FRAME_BYTES_MAX as u32 + 1, u32::MAX] {
        let mut source = BytesMut::from(&length.to_le_bytes()[..]);
        let before = source.capacity();
        let fault = FrameCodec.decode(&mut source).expect_err("out of range");
        assert!(matches!(fault, FrameError::Length { found } if found == length as usize));
        assert_eq!(source.capacity(), before);
    }
}

/// Whoever only announces a large frame must not cost as much as one who sends it.
#[test]
fn room_grows_with_what_has_come() {
    let whole = wire(&[vec![9; BODY_BYTES_MAX]]);
    let mut source = BytesMut::new();
    let mut bodies = 0;
    for piece in whole.chunks(10_000) {
        source.extend_from_slice(piece);
        let came = source.len();
        bodies += usize::from(FrameCodec.decode(&mut source).expect("sound").is_some());
        let room = source.capacity();
        assert!(
            room <= 4 * came.max(RESERVED_BYTES_MIN),
            "{room} for {came}"
        );
    }
    assert_eq!(bodies, 1);
}

#[test]
fn largest_body_passes_and_one_byte_more_does_not() {
    let largest = Bytes::from(vec![7; BODY_BYTES_MAX]);
    let mut out = BytesMut::new();
    FrameCodec.encode(largest.clone(), &mut out).expect("fits");
    assert_eq!(FrameCodec.decode(&mut out).expect("sound"), Some(largest));
    let more = Bytes::from(vec![7; BODY_BYTES_MAX + 1]);
    assert!(matches!(Sealed::new(more), Err(FrameError::Length { .. })));
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        decode_all(&bytes);
    }

    #[test]
    fn bodies_come_back(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6000), 0..8)) {
        let (found, fault) = decode_all(&wire(&bodies));
        prop_assert!(fault.is_none());
        prop_assert_eq!(found, bodies);
    }
}
