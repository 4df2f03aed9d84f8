//! The ready queue: jobs in the order in which they run.
//!
//! First in, first out, with nothing else in the way: this is the hottest structure of the loop.
//! The snapshot that makes an iteration finite is taken by the event loop, not here.

use std::collections::VecDeque;

/// A FIFO of jobs.
#[derive(Debug)]
pub struct ReadyQueue<J> {
    jobs: VecDeque<J>,
}

impl<J> Default for ReadyQueue<J> {
    fn default() -> Self {
        ReadyQueue { jobs: VecDeque::new() }
    }
}

impl<J> ReadyQueue<J> {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a job at the end.
    #[inline]
    pub fn push(&mut self, job: J) {
        self.jobs.push_back(job);
    }

    /// Takes the first job.
    #[inline]
    pub fn pop(&mut self) -> Option<J> {
        self.jobs.pop_front()
    }

    /// Number of jobs.
    #[inline]
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether there is no job.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The jobs in order.
    pub fn iter(&self) -> impl Iterator<Item = &J> {
        self.jobs.iter()
    }

    /// Takes all jobs, in order.
    pub fn take_all(&mut self) -> VecDeque<J> {
        std::mem::take(&mut self.jobs)
    }

    /// Gives memory back if the queue is empty and its room is above `jobs_kept_max`.
    pub fn shrink_if_empty(&mut self, jobs_kept_max: usize) {
        if self.jobs.is_empty() && self.jobs.capacity() > jobs_kept_max {
            self.jobs = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out() {
        let mut ready = ReadyQueue::new();
        (0..4).for_each(|job| ready.push(job));
        assert_eq!((ready.pop(), ready.pop(), ready.len()), (Some(0), Some(1), 2));
        assert_eq!(ready.iter().copied().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(ready.take_all(), [2, 3]);
        assert_eq!((ready.pop(), ready.is_empty()), (None, true));
    }

    #[test]
    fn a_burst_leaves_no_memory() {
        let mut ready = ReadyQueue::new();
        (0..1000).for_each(|job| ready.push(job));
        ready.shrink_if_empty(100);
        assert_eq!(ready.len(), 1000);
        while ready.pop().is_some() {}
        ready.shrink_if_empty(100);
        assert_eq!(ready.jobs.capacity(), 0);
    }
}
