use super::*;
use bytes::Bytes;
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn request() -> impl Strategy<Value = Request> {
    let body = prop_oneof![
        bytes().prop_map(RequestBody::Command),
        (any::<bool>(), bytes()).prop_map(|(stale, bytes)| RequestBody::Query { stale, bytes }),
        Just(RequestBody::Status),
        Just(RequestBody::Members),
        Just(RequestBody::Health),
        any::<u16>().prop_map(|to| RequestBody::Transfer { to }),
        any::<u64>().prop_map(|bytes| RequestBody::Room { bytes }),
    ];
    (any::<u64>(), body).prop_map(|(id, body)| Request { id, body })
}

fn response() -> impl Strategy<Value = Response> {
    let leader = (any::<u16>(), ".{0,30}").prop_map(|(id, address)| Leader { id, address });
    let status = (any::<(u16, u64, u64, u128)>(), ".{0,30}").prop_map(|(numbers, text)| {
        let (id, chosen, state_hash, cluster) = numbers;
        let status = Status {
            id,
            chosen,
            state_hash,
            cluster,
            client: text,
            ..Status::default()
        };
        ResponseBody::Status(Box::new(status))
    });
    let member = (any::<u16>(), ".{0,30}").prop_map(|(id, client)| MemberInfo {
        id,
        client,
        ..MemberInfo::default()
    });
    let body = prop_oneof![
        (any::<u64>(), any::<Option<u64>>(), bytes()).prop_map(|(slot, stamp_ms, bytes)| {
            ResponseBody::Outcome {
                slot,
                stamp_ms,
                bytes,
            }
        }),
        (any::<u64>(), bytes()).prop_map(|(slot, bytes)| ResponseBody::Answer { slot, bytes }),
        any::<u64>().prop_map(|position| ResponseBody::Waiting { position }),
        prop::option::of(leader).prop_map(|leader| ResponseBody::NotLeader { leader }),
        (".{0,50}", any::<u64>())
            .prop_map(|(reason, retry_ms)| ResponseBody::Unavailable { reason, retry_ms }),
        ".{0,50}".prop_map(|reason| ResponseBody::Unknown { reason }),
        ".{0,50}".prop_map(|reason| ResponseBody::Bad { reason }),
        status,
        prop::collection::vec(member, 0..7).prop_map(ResponseBody::Members),
        any::<u64>().prop_map(|commit_us| ResponseBody::Health { commit_us }),
        Just(ResponseBody::Done),
        (any::<u64>(), any::<u64>(), bytes()).prop_map(|(session, slot, bytes)| {
            ResponseBody::Lost {
                session,
                slot,
                bytes,
            }
        }),
    ];
    (any::<u64>(), body).prop_map(|(id, body)| Response { id, body })
}

#[test]
fn what_carries_no_payload_has_nothing_after_it() {
    let mut body = Request {
        id: 1,
        body: RequestBody::Status,
    }
    .encode()
    .to_vec();
    body.push(0);
    assert!(Request::decode(body.into()).is_err());
    let mut body = Response {
        id: 1,
        body: ResponseBody::Done,
    }
    .encode()
    .to_vec();
    body.push(0);
    assert!(Response::decode(body.into()).is_err());
}

/// A list that claims more than the limit is refused before memory is taken for it.
#[test]
fn a_lying_length_is_refused() {
    let mut body = Response {
        id: 1,
        body: ResponseBody::Members(vec![]),
    }
    .encode()
    .to_vec();
    let count = body.len() - 8;
    body[count..].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(Response::decode(body.into()).is_err());
}

#[test]
fn payloads_are_not_copied() {
    let request = Request {
        id: 3,
        body: RequestBody::Command(Bytes::from(vec![9; 100])),
    };
    let wire = request.encode();
    let Request {
        body: RequestBody::Command(payload),
        ..
    } = Request::decode(wire.clone()).expect("sound")
    else {
        panic!("a command")
    };
    assert_eq!(payload.as_ptr(), wire[wire.len() - 100..].as_ptr());
}

proptest! {
    #[test]
    fn requests_come_back(request in request()) {
        prop_assert_eq!(Request::decode(request.encode()).expect("sound"), request);
    }

    #[test]
    fn responses_come_back(response in response()) {
        prop_assert_eq!(Response::decode(response.encode()).expect("sound"), response);
    }

    #[test]
    fn any_bytes_never_panic(bytes in bytes()) {
        let _ = Request::decode(bytes.clone());
        let _ = Response::decode(bytes);
    }

    /// Starts like something sound, so that the decoder gets further than with pure noise.
    #[test]
    fn damaged_responses_never_panic(
        response in response(),
        at in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let mut body = response.encode().to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        body.truncate(at + 64);
        let _ = Response::decode(body.into());
    }
}
