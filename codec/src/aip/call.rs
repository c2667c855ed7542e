//! CALL (0x4A10), and the records that follow it on its stream.

use bytes::{Bytes, BytesMut};

use crate::{
    cursor::Cursor,
    error::{DecodeError, EncodeError},
    moqt::{
        error_code::RequestCode,
        id::RequestId,
        message::{MessageType, Reason},
        name::{FullTrackName, TrackNamespace},
        parameter::Parameters,
        varint,
        version::Version,
    },
};

/// The sender calls a method of whoever publishes a namespace. Records follow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Call {
    /// The request's number.
    pub request_id: RequestId,
    /// Whom it is for.
    pub namespace: TrackNamespace,
    /// The method.
    pub name: Bytes,
    /// AUTHORIZATION_TOKEN, SUBSCRIBER_PRIORITY, DEADLINE, IDEMPOTENCY_KEY, CONTENT_TYPE.
    pub parameters: Parameters,
}

impl Call {
    pub(crate) fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        let request_id = RequestId(body.varint()?);
        let (namespace, name) = FullTrackName::decode(body)?.into_parts();
        let parameters = Parameters::decode(body, version, MessageType::Call)?;
        Ok(Self { request_id, namespace, name, parameters })
    }

    pub(crate) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        varint::encode(self.request_id.0, out);
        self.namespace.encode(out);
        varint::encode(self.name.len() as u64, out);
        out.extend_from_slice(&self.name);
        self.parameters.encode(version, MessageType::Call, out)
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RecordType {
    /// 0: what is asked; first from the caller.
    Request,
    /// 1: progress, log, input wanted and given.
    Message,
    /// 2: the answer; last.
    Result,
    /// 3: the failure, a [`CallError`]; last.
    Error,
}

/// A record of a call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// What it is.
    pub kind: RecordType,
    /// What it says, in the call's content type.
    pub payload: Bytes,
}

impl Record {
    /// Appends type, length and payload.
    pub fn encode(&self, out: &mut BytesMut) {
        Self::encode_header(self.kind, self.payload.len() as u64, out);
        out.extend_from_slice(&self.payload);
    }

    /// Appends type and length; the caller sends the payload after them.
    pub fn encode_header(kind: RecordType, payload_length: u64, out: &mut BytesMut) {
        varint::encode(kind as u64, out);
        varint::encode(payload_length, out);
    }
}

/// Reads the records of one direction of a call chunk by chunk. A record in one chunk is a slice
/// of it; others are put together in a buffer that grows with what arrives.
#[derive(Debug)]
pub struct RecordDecoder {
    record_length_max: usize,
}

impl RecordDecoder {
    /// A decoder of records with payloads of at most `record_length_max` bytes.
    pub const fn new(record_length_max: usize) -> Self {
        Self { record_length_max }
    }

    /// Hands over the stream's next bytes.
    pub fn push(&mut self, chunk: Bytes) {
        self.record_length_max = 0;
        todo!("{chunk:?}")
    }

    /// The next record; `None` until more bytes are pushed.
    ///
    /// # Errors
    /// If a record's type is unknown, or it is too long, as soon as that is read.
    pub fn poll(&mut self) -> Result<Option<Record>, DecodeError> {
        self.record_length_max = 0;
        todo!()
    }

    /// The stream's end is reached, and `poll` has said `None`.
    ///
    /// # Errors
    /// If it lies inside a record.
    pub fn finish(&self) -> Result<(), DecodeError> {
        todo!()
    }
}

/// What an Error record says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CallError {
    /// Why.
    pub code: RequestCode,
    /// Why, for people.
    pub reason: Reason,
}

impl CallError {
    /// What the payload of an Error record says.
    ///
    /// # Errors
    /// If it is no code and reason.
    pub fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        todo!("{payload:?}")
    }

    /// Appends the payload of an Error record.
    pub fn encode(&self, out: &mut BytesMut) {
        todo!("{out:?}")
    }
}
