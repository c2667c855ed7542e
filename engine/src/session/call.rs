//! CALL: one bidirectional stream, spliced by relays, read by edges.

use aip_codec::{
    aip::call::{Call, CallError, Record, RecordType},
    moqt::{
        error_code::{RequestCode, ResetCode},
        id::RequestId,
        message::{Message, Reason},
        name::TrackNamespace,
        parameter::Parameters,
    },
};
use bytes::{Bytes, BytesMut};

use super::{AskError, Event, Session, outgoing::Begin, request::Kind};
use crate::{
    schedule::Precedence,
    transport::{Action, StreamId},
};

impl Session {
    /// Calls (CALL); what is called follows by [`Session::send_call`].
    ///
    /// # Errors
    /// If the session cannot take requests or the peer did not offer AIP.
    pub fn call(
        &mut self,
        namespace: TrackNamespace,
        name: Bytes,
        parameters: Parameters,
    ) -> Result<RequestId, AskError> {
        if !self.has_calls() {
            return Err(AskError::CallsUnsupported);
        }
        let priority = parameters.subscriber_priority().unwrap_or(128);
        let id = self.ask(Kind::CallSent, |request_id| {
            Message::Call(Call { request_id, namespace, name, parameters })
        })?;
        if let Some(stream) = self.requests.get(id).map(|request| request.stream) {
            self.begin_outgoing(stream, Begin::pulled(id, Precedence::data(id, priority)));
        }
        Ok(id)
    }

    /// Sends bytes of a call, of either side.
    pub fn send_call(&mut self, call: RequestId, bytes: Bytes, fin: bool) {
        let Some(stream) = self.open_call(call) else { return };
        self.send(stream, bytes, fin);
        if fin {
            self.call_send_ended(call);
        }
    }

    /// Cancels what we send of a call.
    pub fn reset_call(&mut self, call: RequestId, code: ResetCode) {
        let Some(stream) = self.open_call(call) else { return };
        self.drop_outgoing(stream);
        self.act(Action::Reset { stream, code: code.0 });
        self.call_send_ended(call);
    }

    /// Reads no more of a call.
    pub fn stop_call(&mut self, call: RequestId, code: ResetCode) {
        let Some(request) = self.requests.get_mut(call) else { return };
        let stream = request.stream;
        let was_open = std::mem::replace(&mut request.receive_open, false);
        if was_open && !self.is_closed() {
            self.act(Action::Stop { stream, code: code.0 });
        }
        self.forget_call_if_over(call);
    }

    /// Holds back, or lets come again, what the other end of a call sends.
    pub fn pause_call(&mut self, call: RequestId, paused: bool) {
        let Some(request) = self.requests.get_mut(call) else { return };
        if std::mem::replace(&mut request.paused, paused) == paused {
            return;
        }
        let stream = request.stream;
        self.act(if paused { Action::Pause { stream } } else { Action::Resume { stream } });
    }

    /// Answers a call with an error record, and reads no more of it.
    pub fn refuse_call(&mut self, call: RequestId, code: RequestCode, reason: &str) {
        let mut payload = BytesMut::new();
        CallError { code, reason: Reason::new(reason) }.encode(&mut payload);
        let mut record = BytesMut::new();
        Record { kind: RecordType::Error, payload: payload.freeze() }.encode(&mut record);
        let Some(stream) = self.open_call(call) else { return };
        self.begin_outgoing(stream, Begin::pulled(call, Precedence::request(call)));
        self.send(stream, record.freeze(), true);
        self.call_send_ended(call);
        self.stop_call(call, ResetCode::CANCELLED);
    }

    /// Bytes of a call that the transport has not sent.
    pub fn call_queued_bytes(&self, call: RequestId) -> usize {
        self.requests
            .get(call)
            .and_then(|request| self.outgoing.get(request.stream))
            .map_or(0, |outgoing| outgoing.account.bytes)
    }

    fn open_call(&self, call: RequestId) -> Option<StreamId> {
        let request = self.requests.get(call)?;
        let is_call = matches!(request.kind, Kind::CallSent | Kind::CallReceived);
        (is_call && request.send_open && !self.is_closed()).then_some(request.stream)
    }

    fn call_send_ended(&mut self, call: RequestId) {
        if let Some(request) = self.requests.get_mut(call) {
            request.send_open = false;
        }
        self.forget_call_if_over(call);
    }

    pub(super) fn receive_on_call(&mut self, call: RequestId, bytes: Bytes, fin: bool) {
        if bytes.is_empty() && !fin {
            return;
        }
        if fin && let Some(request) = self.requests.get_mut(call) {
            request.receive_open = false;
        }
        self.events.push_back(Event::CallBytes { request: call, bytes, fin });
        self.forget_call_if_over(call);
    }

    /// A call is over when neither side may say anything more.
    pub(super) fn forget_call_if_over(&mut self, call: RequestId) {
        let over = self
            .requests
            .get(call)
            .is_some_and(|request| !request.receive_open && !request.send_open);
        if over {
            self.requests.remove(call);
        }
    }
}
