//! Calls, of either side.

use std::{collections::BTreeMap, time::Instant};

use aip_codec::{
    aip::call::{Call, CallError, Record, RecordDecoder, RecordType},
    moqt::{
        error_code::{RequestCode, ResetCode},
        id::RequestId,
        name::TrackNamespace,
        parameter::Parameters,
    },
};
use bytes::{Bytes, BytesMut};

use super::{CallEnd, CallId, Client, ClientError, Event, Owner, Refusal};
use crate::session::AskError;

/// Every call that is not over.
#[derive(Debug, Default)]
pub(super) struct Calls {
    table: BTreeMap<CallId, CallState>,
    next: u64,
}

#[derive(Debug)]
struct CallState {
    request: RequestId,
    ours: bool,
    decoder: RecordDecoder,
    /// Whether we have said all.
    sent_all: bool,
    /// Whether the peer has.
    received_all: bool,
    /// Whether the peer has sent any record.
    answered: bool,
}

impl Calls {
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    fn insert(&mut self, request: RequestId, ours: bool, record_length_max: usize) -> CallId {
        let call = CallId(self.next);
        self.next += 1;
        self.table.insert(
            call,
            CallState {
                request,
                ours,
                decoder: RecordDecoder::new(record_length_max),
                sent_all: false,
                received_all: false,
                answered: false,
            },
        );
        call
    }
}

impl Client {
    /// Begins a call. Follow with records, the first a request; nothing is awaited in between.
    ///
    /// # Errors
    /// If there is no session that speaks AIP, it is going away, or there are too many calls.
    pub fn call(
        &mut self,
        namespace: TrackNamespace,
        name: Bytes,
        parameters: Parameters,
        _now: Instant,
    ) -> Result<CallId, ClientError> {
        if self.config.calls_max <= self.calls.table.len() {
            return Err(ClientError::LimitReached("calls"));
        }
        let limit = self.config.record_length_max;
        let session = self.session().ok_or(ClientError::NotConnected)?;
        let request = session.call(namespace, name, parameters).map_err(|error| match error {
            AskError::CallsUnsupported => ClientError::CallsUnsupported,
            AskError::GoingAway => ClientError::GoingAway,
            _ => ClientError::NotConnected,
        })?;
        let call = self.calls.insert(request, true, limit);
        self.own(request, Owner::Call(call));
        Ok(call)
    }

    /// Sends a record on a call, ours or the peer's. `last`: none follows from us.
    ///
    /// # Errors
    /// If there is no such call, we have said all already, or too much waits for the network.
    pub fn send_record(
        &mut self,
        call: CallId,
        kind: RecordType,
        payload: Bytes,
        last: bool,
    ) -> Result<(), ClientError> {
        let limit = self.config.queued_bytes_max;
        let state = self.calls.table.get_mut(&call).ok_or(ClientError::UnknownCall)?;
        if state.sent_all {
            return Err(ClientError::UnknownCall);
        }
        let request = state.request;
        let session = self
            .current
            .as_mut()
            .map(|current| &mut current.session)
            .ok_or(ClientError::UnknownCall)?;
        if limit < session.queued_bytes() + payload.len() {
            return Err(ClientError::LimitReached("bytes that wait for the network"));
        }
        let mut header = BytesMut::new();
        Record::encode_header(kind, payload.len() as u64, &mut header);
        let header = header.freeze();
        session.send_call(request, header, last && payload.is_empty());
        if !payload.is_empty() {
            session.send_call(request, payload, last);
        }
        if last {
            if let Some(state) = self.calls.table.get_mut(&call) {
                state.sent_all = true;
            }
            self.end_call_if_over(call);
        }
        Ok(())
    }

    /// Refuses a received call: its caller sees [`CallEnd::Refused`].
    pub fn refuse_call(&mut self, call: CallId, refusal: Refusal) {
        let Some(state) = self.calls.table.remove(&call) else { return };
        self.forget(state.request);
        if let Some(session) = self.session() {
            session.refuse_call(state.request, refusal.code, &refusal.reason);
        }
    }

    /// Cancels a call, ours or the peer's; nothing more is told of it.
    pub fn cancel_call(&mut self, call: CallId) {
        let Some(state) = self.calls.table.remove(&call) else { return };
        self.forget(state.request);
        if let Some(session) = self.session() {
            session.reset_call(state.request, ResetCode::CANCELLED);
            session.stop_call(state.request, ResetCode::CANCELLED);
        }
        self.close_if_moved();
    }

    pub(super) fn call_received(&mut self, request: RequestId, body: Call) {
        let is_ours = self.announced.keys().any(|ours| ours.is_prefix_of(&body.namespace));
        let refusal = if !is_ours {
            Some((RequestCode::DOES_NOT_EXIST, "this namespace is not published here"))
        } else if self.draining {
            Some((RequestCode::GOING_AWAY, "going away"))
        } else if self.config.calls_max <= self.calls.table.len() {
            Some((RequestCode::EXCESSIVE_LOAD, "too many calls"))
        } else {
            None
        };
        if let Some((code, reason)) = refusal {
            if let Some(session) = self.session() {
                session.refuse_call(request, code, reason);
            }
            return;
        }
        let call = self.calls.insert(request, false, self.config.record_length_max);
        self.own(request, Owner::Call(call));
        self.events.push_back(Event::CallReceived {
            call,
            namespace: body.namespace,
            name: body.name,
            parameters: body.parameters,
        });
    }

    fn call_of(&self, request: RequestId) -> Option<CallId> {
        match self.owner(request)? {
            Owner::Call(call) => Some(call),
            _ => None,
        }
    }

    pub(super) fn call_bytes(&mut self, request: RequestId, bytes: Bytes, fin: bool) {
        let Some(call) = self.call_of(request) else { return };
        let Some(state) = self.calls.table.get_mut(&call) else { return };
        state.decoder.push(bytes);
        loop {
            let Some(state) = self.calls.table.get_mut(&call) else { return };
            match state.decoder.poll() {
                Ok(Some(record)) => self.record(call, record),
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, "call cancelled: its records are malformed");
                    self.fail_call(call);
                    return;
                }
            }
        }
        if !fin {
            return;
        }
        let Some(state) = self.calls.table.get_mut(&call) else { return };
        state.received_all = true;
        if state.decoder.finish().is_err() || (state.ours && !state.answered) {
            self.fail_call(call);
        } else {
            self.end_call_if_over(call);
        }
    }

    fn record(&mut self, call: CallId, record: Record) {
        let Some(state) = self.calls.table.get_mut(&call) else { return };
        let is_first = !std::mem::replace(&mut state.answered, true);
        if record.kind == RecordType::Error && state.ours && is_first {
            let refusal = CallError::decode(record.payload).map_or_else(
                |_| Refusal {
                    code: RequestCode::INTERNAL_ERROR,
                    retry_after: None,
                    reason: "malformed refusal".to_owned(),
                },
                |error| Refusal {
                    code: error.code,
                    retry_after: None,
                    reason: error.reason.as_str().to_owned(),
                },
            );
            self.end_call(call, CallEnd::Refused(refusal));
            return;
        }
        self.events.push_back(Event::Record { call, kind: record.kind, payload: record.payload });
    }

    /// The peer broke a call: it is cancelled on our side.
    fn fail_call(&mut self, call: CallId) {
        self.end_call(call, CallEnd::Cancelled);
    }

    pub(super) fn call_reset(&mut self, request: RequestId, code: ResetCode) {
        if let Some(call) = self.call_of(request) {
            self.end_call(call, end_of(code));
        }
    }

    /// The peer reads no more. A caller that does so has cancelled; a callee may still answer.
    pub(super) fn call_stopped(&mut self, request: RequestId, code: ResetCode) {
        let Some(call) = self.call_of(request) else { return };
        let Some(state) = self.calls.table.get_mut(&call) else { return };
        state.sent_all = true;
        if state.ours {
            self.end_call_if_over(call);
        } else {
            self.end_call(call, end_of(code));
        }
    }

    fn end_call_if_over(&mut self, call: CallId) {
        let over =
            self.calls.table.get(&call).is_some_and(|state| state.received_all && state.sent_all);
        if over {
            self.end_call(call, CallEnd::Finished);
        }
    }

    /// Ends a call and whatever of it is still open.
    fn end_call(&mut self, call: CallId, end: CallEnd) {
        let Some(state) = self.calls.table.remove(&call) else { return };
        self.forget(state.request);
        if let Some(session) = self.session() {
            if !state.sent_all {
                session.reset_call(state.request, ResetCode::CANCELLED);
            }
            if !state.received_all {
                session.stop_call(state.request, ResetCode::CANCELLED);
            }
        }
        self.events.push_back(Event::CallEnded { call, end });
    }

    pub(super) fn session_lost_for_calls(&mut self) {
        for call in std::mem::take(&mut self.calls.table).into_keys() {
            self.events.push_back(Event::CallEnded { call, end: CallEnd::Lost });
        }
    }
}

/// What a reset says: a relay that loses the further end's session resets for that reason.
fn end_of(code: ResetCode) -> CallEnd {
    if code == ResetCode::SESSION_CLOSED { CallEnd::Lost } else { CallEnd::Cancelled }
}
