//! Spans of other programs, as W3C Trace Context and as the SDK have them.

use aip_codec::aip::trace::TraceContext;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// A span elsewhere, for the SDK.
pub fn remote(context: TraceContext) -> SpanContext {
    let flags = if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace, span) = (TraceId::from_bytes(context.trace), SpanId::from_bytes(context.span));
    SpanContext::new(trace, span, flags, true, TraceState::default())
}

/// A span of ours, for others.
pub fn local(span: &SpanContext) -> TraceContext {
    TraceContext {
        trace: span.trace_id().to_bytes(),
        span: span.span_id().to_bytes(),
        sampled: span.is_sampled(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_comes_back_as_it_was() {
        let context = TraceContext { trace: [1; 16], span: [2; 8], sampled: true };
        assert_eq!(local(&remote(context)), context);
        assert!(remote(context).is_valid() && remote(context).is_remote());
    }
}
