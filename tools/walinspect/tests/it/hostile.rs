//! Whatever the bytes, the program ends with an exit code that it promises, and changes nothing.

use std::fs;

use proptest::prelude::*;

use crate::reading::VERBS;
use crate::rig::{Rig, run};

/// Everything but 7, which is asked for by name, and 5, which belongs to no verb yet.
const CODES: [i32; 6] = [0, 1, 2, 3, 4, 6];

#[track_caller]
fn check(rig: &Rig, paths: &[std::path::PathBuf], turn: usize) {
    let before = rig.contents();
    for path in paths {
        let path = path.to_str().expect("plain");
        // Another few verbs each time: all of them come up over the cases.
        for step in 0..4 {
            let verb = VERBS[(turn + step * 5) % VERBS.len()];
            let said = run(&[verb, &["--dir", path]].concat());
            assert!(CODES.contains(&said.code), "{verb:?} {said:?}");
        }
    }
    assert_eq!(rig.contents(), before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn noise(data in prop::collection::vec(any::<u8>(), 0..9_000), turn in 0usize..16) {
        let rig = Rig::empty();
        fs::create_dir_all(rig.file("wal")).expect("create");
        fs::create_dir_all(rig.file("snapshots")).expect("create");
        let segment = [b"PXWALSEG".as_slice(), &data].concat();
        let snapshot = [b"PXWALSNP".as_slice(), &data].concat();
        fs::write(rig.segment(1), &segment).expect("write");
        fs::write(rig.file("wal/super.0"), &data).expect("write");
        fs::write(rig.file("snapshots/0000000000000008.snap"), &snapshot).expect("write");
        fs::write(rig.file("noise"), &data).expect("write");
        let paths = ["", "noise", "snapshots/0000000000000008.snap"].map(|name| rig.file(name));
        check(&rig, &[&paths[..], &[rig.segment(1)]].concat(), turn);
    }

    /// Good checksums here and there, so that what is behind them is reached too.
    #[test]
    fn a_real_folder_with_noise_in_it(
        spots in prop::collection::vec((0usize..6, 0usize..32_768, any::<u8>(), 1usize..600), 1..6),
        turn in 0usize..16,
    ) {
        let rig = Rig::killed();
        let files = ["wal/super.0", "wal/super.1"].map(|name| rig.file(name));
        let files = [&files[..], &[1, 2, 3, 4].map(|seq| rig.segment(seq))].concat();
        for (file, at, byte, count) in spots {
            let mut bytes = fs::read(&files[file]).unwrap_or_default();
            let at = at % bytes.len().max(1);
            let end = (at + count).min(bytes.len());
            bytes[at..end].fill(byte);
            fs::write(&files[file], bytes).expect("write");
        }
        check(&rig, &[rig.path().to_owned(), rig.segment(2)], turn);
    }
}
