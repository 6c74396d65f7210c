use super::*;

/// Rates in thousandths of real time; `rho` = 1 %.
const RATES: [u64; 5] = [990, 995, 1000, 1005, 1010];

/// One world: our clock and the leader's run at their own rates; the attempt is sent at real time
/// 0 and stamped `delay_us` later. Returns our clock as cluster time reaches `deadline`.
fn end_by_our_clock(pair: Pair, deadline: u64, delay_us: u64, ours: u64, leaders: u64) -> u64 {
    let ahead_us = (deadline - pair.stamp.0) * 1000;
    let real_us = delay_us + ahead_us * 1000 / leaders;
    pair.sent.0 + real_us * ours / 1000
}

/// In every world within the agreed rates the holder stops believing before the lease ends, and not
/// long before.
#[test]
fn never_late_and_hardly_early() {
    let margin = MARGIN.as_micros() as u64;
    for sent in [1, 1_000_000, 400_000_000_000] {
        for stamp in [0, 1, 77_000, 90_000_000] {
            let pair = Pair {
                sent: BootTime(sent),
                stamp: ClusterTime(stamp),
            };
            for lease in [1, 20, 500, 2_000, 20_000, 86_400_000] {
                let local = pair.local(ClusterTime(stamp + lease)).0;
                let mut earliest = u64::MAX;
                for delay_us in [0, 100, 50_000, 5_000_000] {
                    for ours in RATES {
                        for leaders in RATES {
                            let end =
                                end_by_our_clock(pair, stamp + lease, delay_us, ours, leaders);
                            earliest = earliest.min(end);
                        }
                    }
                }
                assert!(
                    local + margin <= earliest || local <= sent,
                    "lease {lease} ms: late"
                );
                let slack = lease * 1000 * 3 / 1000 + 1000;
                assert!(
                    local + margin + slack >= earliest,
                    "lease {lease} ms: far too early"
                );
            }
        }
    }
}

#[test]
fn what_is_past_stays_past() {
    let pair = Pair {
        sent: BootTime(5_000_000),
        stamp: ClusterTime(1000),
    };
    for deadline in [0, 999, 1000] {
        assert!(pair.local(ClusterTime(deadline)) < pair.sent);
    }
    let nothing_known = Pair {
        sent: BootTime(5_000_000),
        stamp: ClusterTime(u64::MAX),
    };
    assert!(nothing_known.local(ClusterTime(u64::MAX)) < nothing_known.sent);
}

#[test]
fn extremes_do_not_overflow() {
    let pair = Pair {
        sent: BootTime(u64::MAX),
        stamp: ClusterTime(0),
    };
    assert!(pair.local(ClusterTime(u64::MAX)).0 > u64::MAX / 2);
    let start = Pair {
        sent: BootTime(0),
        stamp: ClusterTime(0),
    };
    assert_eq!(start.local(ClusterTime(0)), BootTime(0));
}

/// Of all pairs of a small world, the better one is the one that bounds every deadline later.
#[test]
fn the_better_pair_bounds_later() {
    let mut pairs = Vec::new();
    for sent in (1_000_000..1_100_000).step_by(9_700) {
        for stamp in (0..120).step_by(7) {
            pairs.push(Pair {
                sent: BootTime(sent),
                stamp: ClusterTime(stamp),
            });
        }
    }
    for &one in &pairs {
        for &other in &pairs {
            let best = one.better(other);
            for deadline in [200, 20_000] {
                let deadline = ClusterTime(deadline);
                let latest = one.local(deadline).max(other.local(deadline));
                assert_eq!(best.local(deadline), latest, "{one:?} and {other:?}");
            }
        }
    }
}
