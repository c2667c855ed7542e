//! Calls that say which trace they belong to (TRACE_CONTEXT), and what is told of them when they end.
//!
//! A relay stands in the trace between caller and callee: the call goes on with a span of the
//! relay's own as its context. What it can tell is what it knows: whom the call was for, by which
//! name, from when to when, and how it ended.

use std::{collections::BTreeMap, time::Instant};

use aip_codec::{
    aip::{call::Call, trace::TraceContext},
    moqt::name::TrackNamespace,
};
use bytes::Bytes;

use super::namespace_tree::RequestKey;

/// Spans that may wait to be taken; more are counted and not kept.
const KEPT_MAX: usize = 4_096;

/// A call that was routed, or refused.
#[derive(Clone, Debug)]
pub struct CallSpan {
    /// The relay's own span.
    pub context: TraceContext,
    /// The span that it belongs to.
    pub parent: [u8; 8],
    /// Whom it was for.
    pub namespace: TrackNamespace,
    /// The method.
    pub name: Bytes,
    /// When it was received.
    pub began: Instant,
    /// When nothing more could be said by either end.
    pub ended: Instant,
    /// The draft's name for why it ended before its time; `None` if it did not.
    pub failure: Option<&'static str>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Traces {
    /// What ids are made of; `None` traces nothing.
    seed: Option<u64>,
    made: u64,
    /// By the caller's request.
    under_way: BTreeMap<RequestKey, CallSpan>,
    /// Whose end has not been given its time yet.
    ending: Vec<CallSpan>,
    ended: Vec<CallSpan>,
    dropped: u64,
}

impl Traces {
    pub(super) fn new(seed: Option<u64>) -> Self {
        Self { seed, ..Self::default() }
    }

    /// A call begins. The context that it goes on with; `None` leaves what it says.
    pub(super) fn begin(
        &mut self,
        key: RequestKey,
        call: &Call,
        now: Instant,
    ) -> Option<TraceContext> {
        let seed = self.seed?;
        let parent = call.parameters.trace_context().filter(|context| context.sampled)?;
        self.made += 1;
        let span = identifier(seed, self.made);
        let context = TraceContext { span, ..parent };
        let begun = CallSpan {
            context,
            parent: parent.span,
            namespace: call.namespace.clone(),
            name: call.name.clone(),
            began: now,
            ended: now,
            failure: None,
        };
        self.under_way.insert(key, begun);
        Some(context)
    }

    /// Why a call ends before its time.
    pub(super) fn fail(&mut self, key: RequestKey, failure: &'static str) {
        if let Some(span) = self.under_way.get_mut(&key) {
            span.failure.get_or_insert(failure);
        }
    }

    /// A request is over; most are no traced calls.
    pub(super) fn end(&mut self, key: RequestKey) {
        if self.under_way.is_empty() {
            return;
        }
        if let Some(span) = self.under_way.remove(&key) {
            self.ending.push(span);
        }
    }

    /// Gives those that have ended their time.
    pub(super) fn stamp(&mut self, now: Instant) {
        for mut span in self.ending.drain(..) {
            if KEPT_MAX <= self.ended.len() {
                self.dropped += 1;
                continue;
            }
            span.ended = now;
            self.ended.push(span);
        }
    }

    /// Those that have ended, once each, and how many more there were than were kept.
    pub(super) fn take(&mut self) -> (Vec<CallSpan>, u64) {
        (std::mem::take(&mut self.ended), std::mem::take(&mut self.dropped))
    }
}

/// The span of this number, the same for the same seed (SplitMix64's mixing); never 0.
fn identifier(seed: u64, number: u64) -> [u8; 8] {
    let mut bits = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits ^ (bits >> 31)).max(1).to_be_bytes()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any beginning of time does")]
mod tests {
    use aip_codec::moqt::{
        id::RequestId,
        parameter::{Parameter, Parameters},
    };

    use super::*;
    use crate::relay::peer::PeerIndex;

    fn call(sampled: bool) -> Call {
        let context = TraceContext { trace: [7; 16], span: [8; 8], sampled };
        Call {
            request_id: RequestId(0),
            namespace: TrackNamespace::new(["aip", "a", "s"]).unwrap(),
            name: Bytes::from_static(b"tools/call"),
            parameters: Parameters::new().with(Parameter::TraceContext(context)),
        }
    }

    fn key(request: u64) -> RequestKey {
        RequestKey { peer: PeerIndex(0), request: RequestId(request) }
    }

    #[test]
    fn a_call_is_told_of_once_as_part_of_its_trace() {
        let (mut traces, now) = (Traces::new(Some(5)), Instant::now());
        let context = traces.begin(key(0), &call(true), now).unwrap();
        assert_eq!((context.trace, context.sampled), ([7; 16], true));
        assert_ne!(context.span, [8; 8]);
        traces.fail(key(0), "CANCELLED");
        traces.fail(key(0), "SESSION_CLOSED");
        traces.end(key(0));
        traces.end(key(0));
        traces.stamp(now);
        let (spans, dropped) = traces.take();
        assert_eq!((spans.len(), dropped), (1, 0));
        assert_eq!((spans[0].parent, spans[0].failure), ([8; 8], Some("CANCELLED")));
        assert!(traces.take().0.is_empty());
    }

    #[test]
    fn what_nobody_keeps_is_not_traced() {
        let now = Instant::now();
        assert!(Traces::new(Some(5)).begin(key(0), &call(false), now).is_none());
        assert!(Traces::new(None).begin(key(0), &call(true), now).is_none());
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let (mut traces, now) = (Traces::new(Some(5)), Instant::now());
        for number in 0..KEPT_MAX as u64 + 3 {
            traces.begin(key(number), &call(true), now).unwrap();
            traces.end(key(number));
            traces.stamp(now);
        }
        let (spans, dropped) = traces.take();
        assert_eq!((spans.len(), dropped), (KEPT_MAX, 3));
    }
}
