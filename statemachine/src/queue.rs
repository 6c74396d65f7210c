//! The queue of a lock: first come, first served, and anyone may leave.
//!
//! A persistent treap ordered by slot of arrival, each node knowing the size of its subtree:
//!
//! ```text
//!            slot 17, len 5
//!           /              \
//!    slot 12, len 1    slot 40, len 3
//!                      /            \
//!               slot 31, len 1   slot 55, len 1
//! ```
//!
//! Joining, leaving, the first, and the place of anyone cost O(log n); a clone costs O(1) and
//! shares all nodes. A node's priority is a mix of its slot's bits, so that equal queues built in
//! any way have the same shape. Source: Seidel and Aragon, *Randomized Search Trees* (1996).

use std::cmp::Ordering;
use std::sync::Arc;

use crate::Slot;

/// Those who wait, by slot of arrival.
#[derive(Clone, Debug)]
pub(crate) struct Queue<T> {
    root: Link<T>,
}

type Link<T> = Option<Arc<Node<T>>>;

#[derive(Clone, Debug)]
struct Node<T> {
    slot: Slot,
    item: T,
    /// Nodes of this subtree, itself included.
    len: u64,
    left: Link<T>,
    right: Link<T>,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue { root: None }
    }
}

impl<T: Clone> Queue<T> {
    /// How many wait.
    pub(crate) fn len(&self) -> u64 {
        len(&self.root)
    }

    /// Adds one at the end. `slot` must be above all others'.
    pub(crate) fn push(&mut self, slot: Slot, item: T) {
        let leaf = Some(Arc::new(Node {
            slot,
            item,
            len: 1,
            left: None,
            right: None,
        }));
        self.root = merge(self.root.take(), leaf);
    }

    /// The one who came in `slot`.
    pub(crate) fn get(&self, slot: Slot) -> Option<&T> {
        let mut at = self.root.as_deref()?;
        loop {
            at = match slot.cmp(&at.slot) {
                Ordering::Equal => return Some(&at.item),
                Ordering::Less => at.left.as_deref()?,
                Ordering::Greater => at.right.as_deref()?,
            };
        }
    }

    /// Takes out the one who came in `slot`.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<T> {
        self.get(slot)?;
        let (rest, item) = remove(self.root.take(), slot);
        self.root = rest;
        item
    }

    /// The place of the one who came in `slot`, 1 for the first.
    pub(crate) fn position(&self, slot: Slot) -> Option<u64> {
        let mut at = self.root.as_deref()?;
        let mut before = 0;
        loop {
            at = match slot.cmp(&at.slot) {
                Ordering::Equal => return Some(before + len(&at.left) + 1),
                Ordering::Less => at.left.as_deref()?,
                Ordering::Greater => {
                    before += len(&at.left) + 1;
                    at.right.as_deref()?
                }
            };
        }
    }

    /// All who wait, the first one first.
    pub(crate) fn iter(&self) -> Iter<'_, T> {
        let mut iter = Iter { path: Vec::new() };
        iter.descend(self.root.as_deref());
        iter
    }
}

impl<T: Clone + PartialEq> PartialEq for Queue<T> {
    fn eq(&self, other: &Queue<T>) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

/// Walks a queue in order.
pub(crate) struct Iter<'a, T> {
    /// Nodes not yet visited whose left side has been.
    path: Vec<&'a Node<T>>,
}

impl<'a, T> Iter<'a, T> {
    fn descend(&mut self, mut at: Option<&'a Node<T>>) {
        while let Some(node) = at {
            self.path.push(node);
            at = node.left.as_deref();
        }
    }
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = (Slot, &'a T);

    fn next(&mut self) -> Option<(Slot, &'a T)> {
        let node = self.path.pop()?;
        self.descend(node.right.as_deref());
        Some((node.slot, &node.item))
    }
}

fn len<T>(link: &Link<T>) -> u64 {
    link.as_ref().map_or(0, |node| node.len)
}

impl<T> Node<T> {
    fn recount(&mut self) {
        self.len = len(&self.left) + 1 + len(&self.right);
    }
}

/// Joins two trees; all of `left` comes before all of `right`.
fn merge<T: Clone>(left: Link<T>, right: Link<T>) -> Link<T> {
    let (mut a, mut b) = match (left, right) {
        (None, one) | (one, None) => return one,
        (Some(a), Some(b)) => (a, b),
    };
    assert!(a.slot < b.slot, "arrivals come in the order of their slots");
    if priority(a.slot) >= priority(b.slot) {
        let top = Arc::make_mut(&mut a);
        top.right = merge(top.right.take(), Some(b));
        top.recount();
        Some(a)
    } else {
        let top = Arc::make_mut(&mut b);
        top.left = merge(Some(a), top.left.take());
        top.recount();
        Some(b)
    }
}

/// Takes the node of `slot`, which is there, out of the tree.
fn remove<T: Clone>(link: Link<T>, slot: Slot) -> (Link<T>, Option<T>) {
    let Some(mut node) = link else {
        return (None, None);
    };
    let top = Arc::make_mut(&mut node);
    let side = match slot.cmp(&top.slot) {
        Ordering::Less => &mut top.left,
        Ordering::Greater => &mut top.right,
        Ordering::Equal => {
            let rest = merge(top.left.take(), top.right.take());
            return (rest, Some(top.item.clone()));
        }
    };
    let (rest, item) = remove(side.take(), slot);
    *side = rest;
    top.recount();
    (Some(node), item)
}

/// Mixes the bits of a slot. Source: Steele, Lea and Flood, *Fast Splittable Pseudorandom Number
/// Generators* (2014), the finaliser of SplitMix64.
fn priority(slot: Slot) -> u64 {
    let mut z = slot.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn height<T>(link: &Link<T>) -> u32 {
        link.as_ref()
            .map_or(0, |node| 1 + height(&node.left).max(height(&node.right)))
    }

    #[track_caller]
    fn check(queue: &Queue<u64>, model: &BTreeMap<u64, u64>) {
        assert_eq!(queue.len(), model.len() as u64);
        let items: Vec<_> = queue.iter().map(|(slot, &item)| (slot.0, item)).collect();
        assert_eq!(
            items,
            model.iter().map(|(&s, &i)| (s, i)).collect::<Vec<_>>()
        );
        for (place, (&slot, _)) in model.iter().enumerate() {
            assert_eq!(queue.position(Slot(slot)), Some(place as u64 + 1));
        }
        assert_eq!(
            queue.iter().next().map(|(s, _)| s.0),
            model.keys().next().copied()
        );
    }

    #[test]
    fn behaves_like_a_sorted_map() {
        let mut queue = Queue::default();
        let mut model = BTreeMap::new();
        for step in 1..600_u64 {
            queue.push(Slot(step), step * 10);
            model.insert(step, step * 10);
            if !priority(Slot(step)).is_multiple_of(3) {
                let gone = priority(Slot(step + 1)) % step + 1;
                assert_eq!(queue.remove(Slot(gone)), model.remove(&gone));
                assert_eq!(queue.position(Slot(gone)), None);
            }
            if step % 37 == 0 {
                check(&queue, &model);
            }
        }
        check(&queue, &model);
    }

    #[test]
    fn a_clone_is_not_changed_by_what_follows() {
        let mut queue = Queue::default();
        (1..=50).for_each(|s| queue.push(Slot(s), s));
        let kept = queue.clone();
        (1..=50)
            .step_by(2)
            .for_each(|s| assert_eq!(queue.remove(Slot(s)), Some(s)));
        check(&kept, &(1..=50).map(|s| (s, s)).collect());
        check(&queue, &(2..=50).step_by(2).map(|s| (s, s)).collect());
    }

    #[test]
    fn stays_shallow() {
        let mut queue = Queue::default();
        (1..=100_000).for_each(|s| queue.push(Slot(s), ()));
        assert!(height(&queue.root) < 60, "height {}", height(&queue.root));
    }
}
