//! Timers by deadline, and by order of insertion among equal deadlines.
//!
//! Most timers are timeouts: far in the future and cancelled long before. So insertion and removal
//! of a far timer must be cheap, and a removed timer must leave nothing behind. This is a heap with
//! four children per node (shallow, and children share cache lines) that knows where each timer is:
//! a removed one is taken out of the middle at once. A far timer enters at the end of the heap and
//! leaves from near it, so both take a few comparisons.
//!
//! The values lie in the heap itself, which shrinks freely. Keys name places of a slab that hold
//! the position in the heap. What can still go wrong: places of the slab (12 bytes each) before a
//! live one cannot be given back, so a burst of which a late timer survives keeps that much until
//! the timer is gone.

use crate::clock::Deadline;
use crate::limits::TIMERS_KEPT_MAX;
use crate::slab::{Slab, Token};

/// The name of a pending timer.
pub type TimerKey = Token;

const CHILDREN: usize = 4;

#[derive(Debug)]
struct Node<T> {
    deadline: Deadline,
    /// Number of the insertion; breaks ties.
    sequence: u64,
    key: TimerKey,
    value: T,
}

impl<T> Node<T> {
    #[inline]
    fn order(&self) -> (Deadline, u64) {
        (self.deadline, self.sequence)
    }
}

/// Pending timers.
#[derive(Debug)]
pub struct Timers<T> {
    heap: Vec<Node<T>>,
    /// Where each timer is in the heap.
    positions: Slab<u32>,
    next_sequence: u64,
    /// Shrinking the slab is tried again at so many timers or fewer; halves with every try.
    next_shrink_len: usize,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Timers { heap: Vec::new(), positions: Slab::new(), next_sequence: 0, next_shrink_len: 0 }
    }
}

impl<T> Timers<T> {
    /// No timers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a timer.
    pub fn insert(&mut self, deadline: Deadline, value: T) -> TimerKey {
        let position = self.heap.len();
        let key = self.positions.insert(position as u32);
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.heap.push(Node { deadline, sequence, key, value });
        self.sift_up(position);
        key
    }

    /// Takes a timer out before it is due; `None` if it is gone already.
    pub fn remove(&mut self, key: TimerKey) -> Option<T> {
        let position = *self.positions.get(key)? as usize;
        Some(self.take_at(position))
    }

    /// Takes the first timer if its deadline is not after `now`.
    pub fn pop_due(&mut self, now: Deadline) -> Option<T> {
        (self.heap.first()?.deadline <= now).then(|| self.take_at(0))
    }

    /// The earliest deadline.
    #[inline]
    pub fn next_deadline(&self) -> Option<Deadline> {
        self.heap.first().map(|node| node.deadline)
    }

    /// The timer of a key, if it is pending.
    pub fn get(&self, key: TimerKey) -> Option<(Deadline, &T)> {
        let node = &self.heap[*self.positions.get(key)? as usize];
        Some((node.deadline, &node.value))
    }

    /// Number of pending timers.
    #[inline]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether no timer is pending.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Timers for which there is room.
    pub fn capacity(&self) -> usize {
        self.heap.capacity().max(self.positions.places())
    }

    /// The pending timers, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (Deadline, &T)> {
        self.heap.iter().map(|node| (node.deadline, &node.value))
    }

    /// Takes all timers, in the order in which they would run.
    pub fn take_all(&mut self) -> Vec<T> {
        let mut nodes = std::mem::take(&mut self.heap);
        nodes.sort_unstable_by_key(Node::order);
        self.positions.take_all();
        self.next_shrink_len = 0;
        nodes.into_iter().map(|node| node.value).collect()
    }

    fn take_at(&mut self, position: usize) -> T {
        let node = self.heap.swap_remove(position);
        self.positions.remove(node.key);
        if position < self.heap.len() {
            // The former last node is here now; it may belong further up or further down.
            self.sift_up(position);
            self.sift_down(position);
        }
        self.shrink();
        node.value
    }

    fn set_position(&mut self, position: usize) {
        let key = self.heap[position].key;
        *self.positions.get_mut(key).expect("every node has its place") = position as u32;
    }

    fn sift_up(&mut self, mut position: usize) {
        while position > 0 {
            let parent = (position - 1) / CHILDREN;
            if self.heap[parent].order() <= self.heap[position].order() {
                break;
            }
            self.heap.swap(parent, position);
            self.set_position(position);
            position = parent;
        }
        self.set_position(position);
    }

    fn sift_down(&mut self, mut position: usize) {
        loop {
            let first_child = position * CHILDREN + 1;
            let children = first_child..(first_child + CHILDREN).min(self.heap.len());
            let Some(least) = children.min_by_key(|&child| self.heap[child].order()) else {
                break;
            };
            if self.heap[position].order() <= self.heap[least].order() {
                break;
            }
            self.heap.swap(position, least);
            self.set_position(position);
            position = least;
        }
        self.set_position(position);
    }

    /// Gives memory back after a burst. The heap is cut to twice what is live, so that the next cut
    /// is as many removals away. A pass over the slab may find a live place at its end and gain
    /// nothing, so the next is made only when half of the timers are gone.
    fn shrink(&mut self) {
        let len = self.heap.len();
        if self.heap.capacity() > TIMERS_KEPT_MAX && self.heap.capacity() / 4 > len {
            self.heap.shrink_to(len * 2);
        }
        let places = self.positions.places();
        if places <= TIMERS_KEPT_MAX || len > places / 4 {
            self.next_shrink_len = places / 4;
        } else if len <= self.next_shrink_len {
            self.positions.shrink();
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
