//! Values behind tokens that cannot be mistaken for one another.
//!
//! A kernel hands a number back long after it was given one. If the number were an index alone, an
//! answer meant for a closed connection would reach the next one in its place. So a token is an
//! index and a generation; the generation of a place is raised on every removal and a stale token
//! finds nothing. Generations start at 1, so that no live token is 0 as a number and 0 can stand
//! for something else (the epoll driver uses it for its wakeup).
//!
//! Memory: places at the end are given back when most are vacant ([`shrink`](Slab::shrink)); a live
//! value pins the places before it. Generations of dropped places are remembered as one floor for
//! the slab. What can still go wrong: after 2^32 - 1 removals of one place its generation starts
//! again at 1, and a token that was kept all that time would match.

use crate::mutant::planted;

/// The name of a live value of a [`Slab`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    /// The token as a number, for a kernel to keep. Never 0 for a live token.
    #[inline]
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The token of a number made by [`to_u64`](Token::to_u64).
    #[inline]
    pub fn from_u64(number: u64) -> Token {
        Token { index: number as u32, generation: (number >> 32) as u32 }
    }

    /// The place that the token names, for tables that run alongside a slab.
    #[inline]
    pub fn index(self) -> usize {
        self.index as usize
    }
}

#[derive(Debug)]
enum Place<T> {
    Live {
        generation: u32,
        value: T,
    },
    /// `generation` is that of the next value here.
    Vacant {
        generation: u32,
        next_free: u32,
    },
}

const NO_FREE: u32 = u32::MAX;

/// A table of values named by [`Token`]s.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<Place<T>>,
    first_free: u32,
    len: usize,
    /// New places start with this generation, above that of every dropped place.
    generation_floor: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { places: Vec::new(), first_free: NO_FREE, len: 0, generation_floor: 1 }
    }
}

fn next_generation(generation: u32) -> u32 {
    generation.checked_add(1).unwrap_or(1)
}

impl<T> Slab<T> {
    /// An empty slab.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores a value under a new token.
    ///
    /// # Panics
    /// At 2^32 - 1 live values.
    pub fn insert(&mut self, value: T) -> Token {
        self.len += 1;
        let index = self.first_free;
        if index == NO_FREE {
            let index = u32::try_from(self.places.len()).expect("fewer than 2^32 values");
            assert_ne!(index, NO_FREE, "fewer than 2^32 - 1 values");
            let generation = self.generation_floor;
            self.places.push(Place::Live { generation, value });
            return Token { index, generation };
        }
        let place = &mut self.places[index as usize];
        let Place::Vacant { generation, next_free } = *place else {
            unreachable!("the free list holds vacant places only");
        };
        self.first_free = next_free;
        *place = Place::Live { generation, value };
        Token { index, generation }
    }

    /// The value of a token, if it is live.
    #[inline]
    pub fn get(&self, token: Token) -> Option<&T> {
        match self.places.get(token.index()) {
            Some(Place::Live { generation, value })
                if *generation == token.generation || planted!(SlabGenerationUnchecked) =>
            {
                Some(value)
            }
            _ => None,
        }
    }

    /// The value of a token, if it is live.
    #[inline]
    pub fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        match self.places.get_mut(token.index()) {
            Some(Place::Live { generation, value })
                if *generation == token.generation || planted!(SlabGenerationUnchecked) =>
            {
                Some(value)
            }
            _ => None,
        }
    }

    /// Takes the value of a token out; the token is dead afterwards.
    pub fn remove(&mut self, token: Token) -> Option<T> {
        if !self.contains(token) {
            return None;
        }
        let vacant = Place::Vacant {
            generation: next_generation(token.generation),
            next_free: self.first_free,
        };
        let place = std::mem::replace(&mut self.places[token.index()], vacant);
        self.first_free = token.index;
        self.len -= 1;
        match place {
            Place::Live { value, .. } => Some(value),
            Place::Vacant { .. } => unreachable!("contains() saw a live place"),
        }
    }

    /// Whether the token is live.
    pub fn contains(&self, token: Token) -> bool {
        self.get(token).is_some()
    }

    /// Number of live values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no live value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of places, live and vacant.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// The live values by place.
    pub fn iter(&self) -> impl Iterator<Item = (Token, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| match place {
            Place::Live { generation, value } => {
                Some((Token { index: index as u32, generation: *generation }, value))
            }
            Place::Vacant { .. } => None,
        })
    }

    /// Takes all values; every token is dead afterwards.
    pub fn take_all(&mut self) -> Vec<T> {
        let tokens: Vec<Token> = self.iter().map(|(token, _)| token).collect();
        let values = tokens.into_iter().filter_map(|token| self.remove(token)).collect();
        self.shrink();
        values
    }

    /// Gives vacant places at the end back. Costs a pass over all places.
    pub fn shrink(&mut self) {
        while let Some(Place::Vacant { generation, .. }) = self.places.last() {
            self.generation_floor = self.generation_floor.max(*generation);
            self.places.pop();
        }
        self.places.shrink_to_fit();
        self.first_free = NO_FREE;
        for (index, place) in self.places.iter_mut().enumerate().rev() {
            if let Place::Vacant { next_free, .. } = place {
                *next_free = self.first_free;
                self.first_free = index as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_stale_token_finds_nothing() {
        let mut slab = Slab::new();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(second.index(), first.index());
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"second"));
    }

    #[test]
    fn tokens_stay_dead_when_their_place_was_given_back() {
        let mut slab = Slab::new();
        let first = slab.insert(1);
        slab.remove(first);
        slab.shrink();
        assert_eq!(slab.places(), 0);
        let second = slab.insert(2);
        assert_eq!(second.index(), first.index());
        assert_eq!(slab.get(first), None);
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(
            steps in proptest::collection::vec((0..8u8, any::<usize>()), 0..300)
        ) {
            let mut slab = Slab::new();
            let mut model = HashMap::new();
            let mut tokens: Vec<Token> = Vec::new();
            for (number, (kind, at)) in steps.into_iter().enumerate() {
                match kind {
                    0..=3 => {
                        let token = slab.insert(number);
                        prop_assert!(!tokens.contains(&token), "a token was given out twice");
                        prop_assert_ne!(token.to_u64(), 0);
                        prop_assert_eq!(Token::from_u64(token.to_u64()), token);
                        tokens.push(token);
                        model.insert(token, number);
                    }
                    4..=5 if !tokens.is_empty() => {
                        let token = tokens[at % tokens.len()];
                        prop_assert_eq!(slab.remove(token), model.remove(&token));
                    }
                    6 => slab.shrink(),
                    7 if at % 8 == 0 => {
                        let mut values = slab.take_all();
                        values.sort_unstable();
                        let mut expected: Vec<_> = model.drain().map(|(_, value)| value).collect();
                        expected.sort_unstable();
                        prop_assert_eq!(values, expected);
                    }
                    _ => {}
                }
                prop_assert_eq!(slab.len(), model.len());
                for token in &tokens {
                    prop_assert_eq!(slab.get(*token), model.get(token));
                }
                prop_assert_eq!(slab.iter().count(), model.len());
            }
        }
    }
}
