//! Timers by deadline, and by order of insertion among equal deadlines.
//!
//! Most timers are timeouts: far in the future and cancelled long before. So insertion and removal
//! of a far timer must be cheap, and a removed timer must leave nothing behind for long. The values
//! lie in a slab; a heap with four children per node (shallow, and children share cache lines)
//! orders their keys. Removing a timer takes its value out of the slab at once and leaves its key in
//! the heap, where it names nobody any more; keys of the dead are dropped when they come to the top,
//! and all at once when they are half of the heap. So a removal costs a constant, whatever the order
//! in which timers go.
//!
//! What can still go wrong: places of the slab before a live one cannot be given back, so a burst of
//! which a late timer survives keeps that much until the timer is gone.

use crate::clock::Deadline;
use crate::limits::TIMERS_KEPT_MAX;
use crate::mutant::planted;
use crate::slab::{Slab, Token};

/// The name of a pending timer.
pub type TimerKey = Token;

const CHILDREN: usize = 4;

/// Keys of the dead that may stay in a small heap.
const DEAD_KEPT_MAX: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Node {
    deadline: Deadline,
    /// Number of the insertion; breaks ties.
    sequence: u64,
    key: TimerKey,
}

impl Node {
    #[inline]
    fn order(&self) -> (Deadline, u64) {
        (self.deadline, if planted!(TiesAnyOrder) { 0 } else { self.sequence })
    }
}

/// Pending timers.
#[derive(Debug)]
pub struct Timers<T> {
    heap: Vec<Node>,
    values: Slab<(Deadline, T)>,
    next_sequence: u64,
    /// Shrinking the slab is tried again at so many timers or fewer; halves with every try.
    next_shrink_len: usize,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Timers { heap: Vec::new(), values: Slab::new(), next_sequence: 0, next_shrink_len: 0 }
    }
}

impl<T> Timers<T> {
    /// No timers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a timer.
    pub fn insert(&mut self, deadline: Deadline, value: T) -> TimerKey {
        let key = self.values.insert((deadline, value));
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.heap.push(Node { deadline, sequence, key });
        self.sift_up(self.heap.len() - 1);
        key
    }

    /// Takes a timer out before it is due; `None` if it is gone already.
    pub fn remove(&mut self, key: TimerKey) -> Option<T> {
        let (_, value) = self.values.remove(key)?;
        // The last node has no children: if it is the one, it can go at once.
        if self.heap.last().is_some_and(|node| node.key == key) {
            self.heap.pop();
        }
        self.drop_the_dead();
        Some(value)
    }

    /// Takes the first timer if its deadline is not after `now`.
    pub fn pop_due(&mut self, now: Deadline) -> Option<T> {
        let early_ns = if planted!(TimersEarly) { 1_000_000 } else { 0 };
        let now = Deadline(now.0.saturating_add(early_ns));
        while self.heap.first()?.deadline <= now {
            let node = self.take_top();
            if let Some((_, value)) = self.values.remove(node.key) {
                self.shrink();
                return Some(value);
            }
        }
        None
    }

    /// The earliest deadline.
    #[inline]
    pub fn next_deadline(&mut self) -> Option<Deadline> {
        loop {
            let node = self.heap.first()?;
            if self.values.contains(node.key) {
                return Some(node.deadline);
            }
            self.take_top();
        }
    }

    /// The timer of a key, if it is pending.
    pub fn get(&self, key: TimerKey) -> Option<(Deadline, &T)> {
        self.values.get(key).map(|(deadline, value)| (*deadline, value))
    }

    /// Number of pending timers.
    #[inline]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether no timer is pending.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Timers for which there is room.
    pub fn capacity(&self) -> usize {
        self.heap.capacity().max(self.values.places())
    }

    /// The pending timers, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (Deadline, &T)> {
        self.values.iter().map(|(_, (deadline, value))| (*deadline, value))
    }

    /// Takes all timers, in the order in which they would run.
    pub fn take_all(&mut self) -> Vec<T> {
        let mut nodes = std::mem::take(&mut self.heap);
        nodes.sort_unstable_by_key(Node::order);
        let in_order = nodes.iter().filter_map(|node| self.values.remove(node.key));
        let taken = in_order.map(|(_, value)| value).collect();
        self.values.take_all();
        self.next_shrink_len = 0;
        taken
    }

    fn take_top(&mut self) -> Node {
        let node = self.heap.swap_remove(0);
        self.sift_down(0);
        node
    }

    fn sift_up(&mut self, mut position: usize) {
        let node = self.heap[position];
        while position > 0 {
            let parent = (position - 1) / CHILDREN;
            if self.heap[parent].order() <= node.order() {
                break;
            }
            self.heap[position] = self.heap[parent];
            position = parent;
        }
        self.heap[position] = node;
    }

    fn sift_down(&mut self, mut position: usize) {
        let Some(&node) = self.heap.get(position) else { return };
        loop {
            let first_child = position * CHILDREN + 1;
            let end = (first_child + CHILDREN).min(self.heap.len());
            let overlooked = usize::from(planted!(HeapOverlooksChild) && end > first_child + 1);
            let children = first_child..end - overlooked;
            let Some(least) = children.min_by_key(|&child| self.heap[child].order()) else {
                break;
            };
            if node.order() <= self.heap[least].order() {
                break;
            }
            self.heap[position] = self.heap[least];
            position = least;
        }
        self.heap[position] = node;
    }

    /// Drops the keys of the dead once they are half of the heap, and gives memory back.
    fn drop_the_dead(&mut self) {
        let dead = self.heap.len() - self.values.len();
        if dead > DEAD_KEPT_MAX && dead > self.values.len() {
            let values = &self.values;
            self.heap.retain(|node| values.contains(node.key));
            // From the last node that has children up to the top.
            for position in (0..self.heap.len().div_ceil(CHILDREN)).rev() {
                self.sift_down(position);
            }
        }
        self.shrink();
    }

    /// Gives memory back after a burst. The heap is cut to twice what is live, so that the next cut
    /// is as many removals away. A pass over the slab may find a live place at its end and gain
    /// nothing, so the next is made only when half of the timers are gone.
    fn shrink(&mut self) {
        let len = self.values.len();
        if self.heap.capacity() > TIMERS_KEPT_MAX && self.heap.capacity() / 4 > self.heap.len() {
            self.heap.shrink_to(self.heap.len() * 2);
        }
        let places = self.values.places();
        if places <= TIMERS_KEPT_MAX || len > places / 4 {
            self.next_shrink_len = places / 4;
        } else if len <= self.next_shrink_len {
            self.values.shrink();
            self.next_shrink_len = len / 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn equal_deadlines_run_in_order_of_insertion() {
        let mut timers = Timers::new();
        for name in ["a", "b", "c", "d", "e", "f", "g"] {
            timers.insert(Deadline(5), name);
        }
        timers.insert(Deadline(4), "first");
        let mut order = Vec::new();
        while let Some(name) = timers.pop_due(Deadline(5)) {
            order.push(name);
        }
        assert_eq!(order, ["first", "a", "b", "c", "d", "e", "f", "g"]);
    }

    #[test]
    fn not_due_before_its_deadline() {
        let mut timers = Timers::new();
        timers.insert(Deadline(5), ());
        assert_eq!(timers.pop_due(Deadline(4)), None);
        assert_eq!(timers.next_deadline(), Some(Deadline(5)));
        assert_eq!(timers.pop_due(Deadline(5)), Some(()));
    }

    #[test]
    fn cancelled_timers_leave_no_memory() {
        let mut timers = Timers::new();
        let keys: Vec<_> = (0..100_000).map(|i| timers.insert(Deadline(i), i)).collect();
        let kept = keys[17];
        for key in keys.into_iter().filter(|key| *key != kept) {
            timers.remove(key).unwrap();
        }
        assert_eq!(timers.len(), 1);
        // All but the last of the halvings have found what there was to find.
        assert!(timers.capacity() <= 2 * TIMERS_KEPT_MAX, "room for {}", timers.capacity());
        assert_eq!(timers.get(kept), Some((Deadline(17), &17)));
        assert_eq!(timers.remove(kept), Some(17));
        assert_eq!(timers.remove(kept), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(i64),
        Remove(usize),
        PopDue(i64),
        TakeAll,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0..50i64).prop_map(Step::Insert),
            4 => any::<usize>().prop_map(Step::Remove),
            4 => (0..50i64).prop_map(Step::PopDue),
            1 => Just(Step::TakeAll),
        ];
        proptest::collection::vec(step, 0..300)
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(steps in steps()) {
            let mut timers = Timers::new();
            let mut model: BTreeMap<(Deadline, u64), u64> = BTreeMap::new();
            let mut keys = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                let number = number as u64;
                match step {
                    Step::Insert(ns) => {
                        keys.push((timers.insert(Deadline(ns), number), (Deadline(ns), number)));
                        model.insert((Deadline(ns), number), number);
                    }
                    Step::Remove(at) if !keys.is_empty() => {
                        let (key, order) = keys[at % keys.len()];
                        prop_assert_eq!(timers.remove(key), model.remove(&order));
                    }
                    Step::Remove(_) => {}
                    Step::PopDue(ns) => {
                        let due = model.first_key_value().map(|(order, _)| *order);
                        let due = due.filter(|(deadline, _)| *deadline <= Deadline(ns));
                        let expected = due.and_then(|order| model.remove(&order));
                        prop_assert_eq!(timers.pop_due(Deadline(ns)), expected);
                    }
                    Step::TakeAll => {
                        let expected: Vec<_> = std::mem::take(&mut model).into_values().collect();
                        prop_assert_eq!(timers.take_all(), expected);
                    }
                }
                prop_assert_eq!(timers.len(), model.len());
                let next = model.first_key_value().map(|((deadline, _), _)| *deadline);
                prop_assert_eq!(timers.next_deadline(), next);
                let mut seen: Vec<_> = timers.iter().map(|(_, value)| *value).collect();
                let mut expected: Vec<_> = model.values().copied().collect();
                seen.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(seen, expected);
            }
        }
    }
}
