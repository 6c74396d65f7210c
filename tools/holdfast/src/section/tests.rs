use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::*;
use crate::failure::Failure;

/// A section that takes so many bytes.
struct Jar {
    room: usize,
    pieces: RefCell<Vec<(String, usize)>>,
}

impl Appender for Jar {
    async fn append(&self, file: &str, data: Bytes) -> Result<(), Failure> {
        let taken: usize = self.pieces.borrow().iter().map(|(_, len)| len).sum();
        if taken + data.len() > self.room {
            return Err(Failure::new("section_too_large", "the jar is full"));
        }
        self.pieces.borrow_mut().push((file.to_owned(), data.len()));
        Ok(())
    }
}

/// Runs `joiner` against the socket of lock `a`, and returns the section and whether it is torn.
fn check<F: Future<Output = ()>>(
    room: usize,
    joiner: impl FnOnce(String) -> F,
) -> (Vec<(String, usize)>, bool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let jar = Rc::new(Jar {
            room,
            pieces: RefCell::new(Vec::new()),
        });
        let socket = SectionSocket::open("a", 7).unwrap();
        let path = socket.path();
        tokio::select! {
            () = joiner(path.display().to_string()) => {}
            never = socket.serve(&*jar) => never,
        }
        let torn = socket.is_torn();
        drop(socket);
        assert!(
            !path.parent().unwrap().exists(),
            "the socket's folder stayed behind"
        );
        (jar.pieces.borrow().clone(), torn)
    })
}

#[test]
fn an_append_joins_the_lock_that_guards_its_file() {
    let (pieces, torn) = check(100, async |path| {
        let sockets = format!("/nonexistent:{path}");
        assert!(
            join(&sockets, "a", "file_3", &Bytes::from_static(b"hello"))
                .await
                .unwrap()
        );
        assert!(
            !join(&sockets, "b", "file_4", &Bytes::from_static(b"hello"))
                .await
                .unwrap(),
            "joined another lock"
        );
        assert!(join(&sockets, "a", "file_5", &Bytes::new()).await.unwrap());
    });
    assert_eq!(pieces, [("file_3".to_owned(), 5), ("file_5".to_owned(), 0)]);
    assert!(!torn);
}

#[test]
fn more_than_an_append_may_hold_goes_in_pieces() {
    let (pieces, torn) = check(usize::MAX, async |path| {
        let data = Bytes::from(vec![7; APPEND_BYTES_MAX + 1]);
        assert!(join(&path, "a", "f", &data).await.unwrap());
    });
    assert_eq!(
        pieces,
        [("f".to_owned(), APPEND_BYTES_MAX), ("f".to_owned(), 1)]
    );
    assert!(!torn);
}

#[test]
fn a_refusal_that_leaves_half_of_the_data_tears_the_section() {
    let (_, torn) = check(APPEND_BYTES_MAX, async |path| {
        let small = Bytes::from(vec![7; 10]);
        assert!(join(&path, "a", "f", &small).await.unwrap());
        let refused = join(&path, "a", "f", &Bytes::from(vec![7; APPEND_BYTES_MAX])).await;
        assert_eq!(refused.unwrap_err().code, "section_too_large");
    });
    assert!(!torn, "a refusal of all of it leaves the section as it was");
    let (_, torn) = check(APPEND_BYTES_MAX, async |path| {
        let refused = join(&path, "a", "f", &Bytes::from(vec![7; APPEND_BYTES_MAX + 1])).await;
        assert_eq!(refused.unwrap_err().code, "section_too_large");
    });
    assert!(torn);
}

#[test]
fn a_joiner_that_breaks_off_leaves_nothing() {
    let (pieces, torn) = check(100, async |path| {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream
            .write_all(b"{\"v\":1,\"file\":\"f\",\"bytes\":50}\nhalf")
            .await
            .unwrap();
        drop(stream);
        assert!(
            join(&path, "a", "g", &Bytes::from_static(b"x"))
                .await
                .unwrap()
        );
    });
    assert_eq!(pieces, [("g".to_owned(), 1)]);
    assert!(!torn);
}
