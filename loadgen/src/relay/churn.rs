//! Who leaves and comes back while objects flow.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use super::plan::Churn;

/// How long what was published before somebody leaves may take to reach it.
const LINGER: Duration = Duration::from_millis(500);

/// What is to be done with a subscriber.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// It is owed nothing more.
    Leave(usize),
    /// It unsubscribes and subscribes.
    Resubscribe(usize),
    /// It closes its connection and opens another.
    Reconnect(usize),
}

/// See the module. Subscribers take turns.
#[derive(Debug)]
pub(super) struct Churning {
    subscribers: usize,
    kinds: Vec<Kind>,
    turn: usize,
    /// Who has left, until when it lingers, and what follows.
    leaving: VecDeque<(Instant, Step)>,
    away: HashSet<usize>,
}

#[derive(Debug)]
struct Kind {
    gap: Duration,
    next: Option<Instant>,
    step: fn(usize) -> Step,
}

impl Churning {
    pub(super) fn new(churn: Churn, subscribers: usize) -> Self {
        let kind = |rate: f64, step| {
            let gap = (0.0 < rate && 0 < subscribers).then(|| Duration::from_secs_f64(1.0 / rate));
            gap.map(|gap| Kind { gap, next: None, step })
        };
        let kinds =
            [kind(churn.subscribe, Step::Resubscribe), kind(churn.reconnect, Step::Reconnect)];
        let kinds = kinds.into_iter().flatten().collect();
        let leaving = VecDeque::new();
        Self { subscribers, kinds, turn: 0, leaving, away: HashSet::new() }
    }

    /// What is to be done by now.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Step> {
        if let Some(&(due, step)) = self.leaving.front()
            && due <= now
        {
            self.leaving.pop_front();
            return Some(step);
        }
        for kind in &mut self.kinds {
            let next = kind.next.get_or_insert(now + kind.gap);
            if now < *next {
                continue;
            }
            *next += kind.gap;
            let index = self.turn % self.subscribers;
            self.turn += 1;
            // Whoever is still away is passed over: nobody leaves twice.
            if self.away.insert(index) {
                self.leaving.push_back((now + LINGER, (kind.step)(index)));
                return Some(Step::Leave(index));
            }
        }
        None
    }

    /// A subscriber is subscribed again.
    pub(super) fn came_back(&mut self, index: usize) {
        self.away.remove(&index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_lingers_and_leaves_once() {
        let begin = crate::clock::now();
        let churn = Churn { subscribe: 10.0, reconnect: 0.0 };
        let mut churning = Churning::new(churn, 1);
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        assert_eq!(churning.poll(at(0)), None);
        assert_eq!(churning.poll(at(100)), Some(Step::Leave(0)));
        assert_eq!(churning.poll(at(200)), None, "it is away");
        assert_eq!(churning.poll(at(599)), None);
        assert_eq!(churning.poll(at(600)), Some(Step::Resubscribe(0)));
        churning.came_back(0);
        let mut steps = Vec::new();
        while let Some(step) = churning.poll(at(700)) {
            steps.push(step);
        }
        assert_eq!(steps, [Step::Leave(0)]);
    }
}
