//! CALL (0x4A10), and the records that follow it on its stream.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::{
    assembly::{Inbox, Scan, Shortfall},
    cursor::{Cursor, exactly},
    error::{DecodeError, EncodeError, Violation},
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
    /// AUTHORIZATION_TOKEN, SUBSCRIBER_PRIORITY, DEADLINE, IDEMPOTENCY_KEY, CONTENT_TYPE,
    /// RESUME_AFTER, TRACE_CONTEXT.
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

impl RecordType {
    const fn from_code(code: u64) -> Result<Self, Violation> {
        match code {
            0 => Ok(Self::Request),
            1 => Ok(Self::Message),
            2 => Ok(Self::Result),
            3 => Ok(Self::Error),
            _ => Err(Violation::RecordType),
        }
    }

    /// The number on the wire.
    pub const fn code(self) -> u64 {
        match self {
            Self::Request => 0,
            Self::Message => 1,
            Self::Result => 2,
            Self::Error => 3,
        }
    }

    /// Whether no record follows it.
    pub const fn is_last(self) -> bool {
        match self {
            Self::Request | Self::Message => false,
            Self::Result | Self::Error => true,
        }
    }
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
        varint::encode(kind.code(), out);
        varint::encode(payload_length, out);
    }
}

/// Reads the records of one direction of a call chunk by chunk. A record in one chunk is a slice
/// of it; others are put together in a buffer that grows with what arrives.
#[derive(Debug)]
pub struct RecordDecoder {
    inbox: Inbox,
    record_length_max: usize,
}

impl RecordDecoder {
    /// A decoder of records with payloads of at most `record_length_max` bytes.
    pub fn new(record_length_max: usize) -> Self {
        Self { inbox: Inbox::default(), record_length_max }
    }

    /// Hands over the stream's next bytes.
    pub fn push(&mut self, chunk: Bytes) {
        self.inbox.push(chunk);
    }

    /// The next record; `None` until more bytes are pushed.
    ///
    /// # Errors
    /// If a record's type is unknown, or it is too long, as soon as that is read. The decoder is
    /// of no use after it.
    pub fn poll(&mut self) -> Result<Option<Record>, DecodeError> {
        let record_length_max = self.record_length_max as u64;
        let Some(head) = self.inbox.poll_header(|scan| parse_record(scan, record_length_max))?
        else {
            return Ok(None);
        };
        let ((kind, payload), wire) = self.inbox.take_head(head);
        Ok(Some(Record { kind, payload: wire.slice(payload) }))
    }

    /// The stream's end is reached, and `poll` has said `None`.
    ///
    /// # Errors
    /// If it lies inside a record.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.inbox.is_empty() { Ok(()) } else { Err(Violation::RecordTruncated.into()) }
    }
}

/// A record's type, and where its payload lies.
fn parse_record(
    scan: &mut Scan<'_>,
    record_length_max: u64,
) -> Result<(RecordType, Range<usize>), Shortfall> {
    let kind = RecordType::from_code(scan.varint()?)?;
    let length = scan.varint()?;
    if record_length_max < length {
        return Err(Violation::RecordTooLong.into());
    }
    Ok((kind, scan.bytes(length)?))
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
        exactly(payload, Violation::CallError, |cursor| {
            Ok(Self { code: RequestCode(cursor.varint()?), reason: Reason::decode(cursor)? })
        })
    }

    /// Appends the payload of an Error record.
    pub fn encode(&self, out: &mut BytesMut) {
        varint::encode(self.code.0, out);
        self.reason.encode(out);
    }
}
