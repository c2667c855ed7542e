//! The stages of a run, and what each does as time passes.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use super::{BURST_MAX, FanOut, Outcome, PUBLISHER, SETTLE, SLICE_MAX, SWEEP, Stage, Told};
use crate::{
    measure::Phase,
    progress::Row,
    relay::{driver::members::Member, payload::Stamp, publisher::Announcement, tally::Tally},
};

impl FanOut {
    pub(super) fn fail(&mut self, reason: String) {
        if self.outcome.failed.is_none() {
            self.outcome.failed = Some(reason);
        }
        self.finish();
    }

    /// Ends the run, and tells what came of it.
    pub(super) fn finish(&mut self) {
        if self.stage == Stage::Over {
            return;
        }
        self.stage = Stage::Over;
        let nothing = Outcome::new(Tally::new(0, 0, 0, None), Duration::ZERO);
        let mut outcome = std::mem::replace(&mut self.outcome, nothing);
        outcome.tally.conclude();
        if let Some((_, publisher)) = &self.publisher {
            outcome.upstream_subscriptions = publisher.subscribers();
            if 0 < publisher.withheld {
                let kind = "withheld by the publisher: 64 MiB waited for its relay";
                outcome.tally.counts.errors.insert(kind.to_owned(), publisher.withheld);
            }
        }
        // Whoever waited may have given up.
        _ = self.tell.send(Told::Over(Box::new(outcome)));
    }

    /// Publishes nothing more; what was published is still waited for.
    pub(super) fn interrupt(&mut self, now: Instant) {
        match self.stage {
            Stage::Announcing | Stage::Connecting => self.fail("interrupted".to_owned()),
            Stage::Publishing { origin } => {
                let since = now.saturating_duration_since(origin + self.plan.warm_up);
                self.outcome.measured = since.min(self.plan.measured);
                self.upcoming = None;
                self.drain(origin, now);
            }
            Stage::Draining { .. } | Stage::Over => {}
        }
    }

    fn drain(&mut self, origin: Instant, now: Instant) {
        self.stage = Stage::Draining { origin, deadline: now + self.plan.drain };
        self.enter(Phase::CoolDown);
    }

    /// Does what is due by now.
    pub(super) fn advance(&mut self, now: Instant) {
        match self.stage {
            Stage::Announcing => {
                let announced = self
                    .publisher
                    .as_ref()
                    .is_some_and(|(_, publisher)| publisher.announcement == Announcement::Accepted);
                if announced {
                    self.stage = Stage::Connecting;
                    self.next_connect = now;
                } else if self.stage_deadline <= now {
                    self.fail("the publisher's namespace was not accepted in time".to_owned());
                }
            }
            Stage::Connecting => {
                self.connect(now);
                if self.ready == self.members.len() {
                    self.begin(now);
                } else if self.stage_deadline <= now {
                    let (ready, all) = (self.ready, self.members.len());
                    let errors = &self.outcome.tally.counts.errors;
                    self.fail(format!(
                        "{ready} of {all} subscribers were ready in time; {errors:?}"
                    ));
                }
            }
            Stage::Publishing { origin } => {
                self.connect(now);
                self.churn(now);
                self.publish(origin, now);
            }
            Stage::Draining { deadline, .. } => {
                if self.outcome.tally.outstanding() == 0 || deadline <= now {
                    self.finish();
                }
            }
            Stage::Over => {}
        }
    }

    /// All are ready: objects are due from now on, or from when all processes begin.
    fn begin(&mut self, now: Instant) {
        let origin = match self.begin_at.map(|at| self.clock.instant(at)) {
            Some(at) if at < now => {
                self.fail("--begin-at had passed before all subscribers were ready".to_owned());
                return;
            }
            Some(at) => at,
            None => now + SETTLE,
        };
        self.outcome.tally.begin(self.clock.of(origin));
        self.stage = Stage::Publishing { origin };
    }

    /// Publishes what is due.
    fn publish(&mut self, origin: Instant, now: Instant) {
        for _ in 0..BURST_MAX {
            let Some(offset) = self.upcoming else {
                self.drain(origin, now);
                return;
            };
            let due = origin + offset;
            if now < due {
                return;
            }
            self.upcoming = self.schedule.next();
            let phase = if offset < self.plan.warm_up {
                Phase::WarmUp
            } else if offset < self.plan.warm_up + self.plan.measured {
                Phase::Measured
            } else {
                Phase::CoolDown
            };
            self.enter(phase);
            let sequence = self.outcome.tally.publish(phase);
            let (due, sent) = (self.clock.of(due), self.clock.now());
            if phase == Phase::Measured {
                self.outcome.lag.record(sent.saturating_sub(due));
            }
            let payload = self.template.stamp(Stamp { run: self.run, sequence, due, sent });
            if let Some((_, publisher)) = &mut self.publisher {
                publisher.publish(sequence, &payload);
            }
            self.take_actions(PUBLISHER);
        }
    }

    fn enter(&mut self, phase: Phase) {
        if self.phase == phase {
            return;
        }
        // Whoever waited may have given up.
        if phase == Phase::Measured {
            _ = self.tell.send(Told::Measuring);
        } else {
            if self.phase == Phase::WarmUp {
                _ = self.tell.send(Told::Measuring);
            }
            _ = self.tell.send(Told::Measured);
        }
        self.phase = phase;
    }

    /// Tells sessions the time; of many, some at once and the others a little later.
    pub(super) fn sweep(&mut self, now: Instant) {
        let slices = self.members.len().div_ceil(SLICE_MAX).max(1);
        self.next_sweep = now + SWEEP / u32::try_from(slices).unwrap_or(u32::MAX);
        let until = (self.sweep_from + SLICE_MAX).min(self.members.len());
        for key in self.sweep_from as u64..until as u64 {
            if let Some(Member::Up { subscriber, .. }) = self.member(key) {
                subscriber.session.handle_timeout(now);
                self.attend(key, now);
            }
        }
        self.sweep_from = if until < self.members.len() { until } else { 0 };
        if self.sweep_from != 0 {
            return;
        }
        if let Some((_, publisher)) = &mut self.publisher {
            publisher.session.handle_timeout(now);
        }
        self.attend(PUBLISHER, now);
        if let Stage::Publishing { origin } | Stage::Draining { origin, .. } = self.stage
            && origin <= now
        {
            self.outcome.tally.tick(self.clock.of(now));
        }
        self.show(now);
    }

    fn show(&self, now: Instant) {
        let Some(progress) = &self.progress else { return };
        let (stage, origin) = match self.stage {
            Stage::Announcing => ("announcing", None),
            Stage::Connecting => ("connecting", None),
            Stage::Publishing { origin } => (self.phase.name(), Some(origin)),
            Stage::Draining { origin, .. } => ("draining", Some(origin)),
            Stage::Over => return,
        };
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        stage.clone_into(&mut progress.stage);
        progress.elapsed =
            origin.map_or(Duration::ZERO, |origin| now.saturating_duration_since(origin));
        progress.total = self.plan.warm_up + self.plan.measured + self.plan.cool_down;
        let tally = &self.outcome.tally;
        progress.facts = vec![
            ("subscribers", format!("{} of {}", self.ready, self.members.len())),
            ("objects published", crate::report::count(tally.published())),
            ("deliveries under way", crate::report::count(tally.outstanding())),
        ];
        progress.counts = tally.counts.clone();
        let known = progress.timeline.len();
        let seconds = tally.timeline.seconds();
        if known < seconds.len() {
            progress.timeline.extend_from_slice(&seconds[known..]);
            // Percentiles cost tens of microseconds, in which nothing is sent.
            progress.rows = vec![Row::of("latency", &tally.latency), Row::of("last", &tally.last)];
        }
    }
}
