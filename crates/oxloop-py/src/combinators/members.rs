//! The futures of a group, in the order in which they joined, each found by its address.
//!
//! Facts: a group may live as long as a server and see a million tasks come and go, in any order.
//! Decision: a list with holes and a table of places; the list is closed up when most of it is
//! holes, so every operation costs a constant on average.

use pyo3::{PyTraverseError, PyVisit};

use super::gather::AddressMap;
use crate::ffi::Ref;

/// Below this many places, holes are not worth closing.
const PLACES_MIN: usize = 32;

#[derive(Default)]
pub struct Members {
    list: Vec<Option<Ref>>,
    places: AddressMap<usize>,
}

impl Members {
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub fn add(&mut self, member: Ref) {
        let address = member.as_ptr() as usize;
        if self.places.contains_key(&address) {
            return;
        }
        self.places.insert(address, self.list.len());
        self.list.push(Some(member));
    }

    /// Takes a member out; the caller drops it when nothing is borrowed.
    pub fn remove(&mut self, address: usize) -> Option<Ref> {
        let place = self.places.remove(&address)?;
        let member = self.list.get_mut(place).and_then(Option::take);
        if self.places.is_empty() {
            self.list.clear();
        } else if self.list.len() > PLACES_MIN && self.places.len() < self.list.len() / 4 {
            self.close_up();
        }
        member
    }

    fn close_up(&mut self) {
        // Moves references, drops none: the holes hold nothing.
        self.list.retain(Option::is_some);
        for (place, member) in self.list.iter().enumerate() {
            if let Some(member) = member {
                self.places.insert(member.as_ptr() as usize, place);
            }
        }
    }

    /// A copy of the members, in order.
    pub fn to_vec(&self) -> Vec<Ref> {
        self.list.iter().flatten().cloned().collect()
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.list.iter().flatten().try_for_each(|member| member.traverse(visit))
    }
}
