//! Calls: each ends once, and who says that it has finished has an answer.

use std::collections::BTreeMap;

use aip_codec::aip::call::RecordType;
use aip_engine::client::{CallEnd, CallId};
use bytes::Bytes;

#[derive(Debug, Default)]
struct Call {
    request: Bytes,
    results: usize,
    end: Option<CallEnd>,
    cancelled: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Calls {
    table: BTreeMap<(usize, CallId), Call>,
}

impl Calls {
    /// A client calls.
    pub fn made(&mut self, client: usize, call: CallId, request: Bytes) {
        self.table.insert((client, call), Call { request, ..Call::default() });
    }

    /// A client cancels a call: nothing more is to be told of it.
    pub fn cancelled(&mut self, client: usize, call: CallId) {
        if let Some(entry) = self.table.get_mut(&(client, call)) {
            entry.cancelled = true;
        }
    }

    /// Calls of a client that are under way.
    pub fn live(&self, client: usize) -> Vec<CallId> {
        self.table
            .iter()
            .filter(|((owner, _), entry)| {
                *owner == client && entry.end.is_none() && !entry.cancelled
            })
            .map(|((_, call), _)| *call)
            .collect()
    }

    /// A caller got a record. A result repeats its request.
    ///
    /// # Panics
    /// If it belongs to another call, or comes after the end.
    pub fn record(&mut self, client: usize, call: CallId, kind: RecordType, payload: &Bytes) {
        let entry = self.table.get_mut(&(client, call)).expect("it was called");
        assert!(entry.end.is_none() && !entry.cancelled, "{call:?} goes on after its end");
        if kind == RecordType::Result {
            assert_eq!(*payload, entry.request, "{call:?} has the answer of another call");
            entry.results += 1;
        }
    }

    /// A caller was told the end.
    ///
    /// # Panics
    /// If it ended before, or finished without an answer.
    pub fn ended(&mut self, client: usize, call: CallId, end: CallEnd) {
        let entry = self.table.get_mut(&(client, call)).expect("it was called");
        assert!(!entry.cancelled, "{call:?} was cancelled, and ends still");
        assert_eq!(entry.end, None, "{call:?} ended twice");
        if end == CallEnd::Finished {
            assert_eq!(entry.results, 1, "{call:?} finished without one answer");
        }
        entry.end = Some(end);
    }

    /// Every call has ended.
    ///
    /// # Panics
    /// If one has not.
    pub fn check_settled(&self) {
        for ((client, call), entry) in &self.table {
            let over = entry.end.is_some() || entry.cancelled;
            assert!(over, "client {client}: {call:?} has no end");
        }
    }
}
