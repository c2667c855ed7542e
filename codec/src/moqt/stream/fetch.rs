//! Fetch streams (draft-22 section 11.4.1): a header, then objects and ranges without objects.

mod record;

use bytes::{BufMut as _, Bytes, BytesMut};

use self::record::{Context, Record, flag};
use super::{flags, subgroup::PROPERTIES_LENGTH_MAX};
use crate::{
    assembly::{Inbox, Scan, Shortfall},
    error::{DecodeError, EncodeError, Violation},
    moqt::{
        id::{RequestId, SubgroupId},
        location::Location,
        parameter::GroupOrder,
        property::Properties,
        varint,
        version::Version,
    },
};

/// The type of a fetch stream.
pub const STREAM_TYPE: u64 = 0x05;

/// FETCH_HEADER.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FetchHeader {
    /// The FETCH answered, or the message that asked for the fill.
    pub request_id: RequestId,
}

impl FetchHeader {
    fn parse(scan: &mut Scan<'_>) -> Result<Self, Shortfall> {
        if scan.varint()? != STREAM_TYPE {
            return Err(Violation::FetchHeader.into());
        }
        Ok(Self { request_id: RequestId(scan.varint()?) })
    }

    /// Appends the header.
    pub fn encode(&self, out: &mut BytesMut) {
        varint::encode(STREAM_TYPE, out);
        varint::encode(self.request_id.0, out);
    }
}

/// An object, without its payload. It has no status: what is not an object is a range.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FetchObject {
    /// Where it is.
    pub location: Location,
    /// Its subgroup; `None` if it was published as a datagram.
    pub subgroup: Option<SubgroupId>,
    /// The publisher's priority, lower is sooner.
    pub priority: u8,
    /// Its properties.
    pub properties: Properties,
    /// Bytes of its payload.
    pub payload_length: u64,
}

/// What is known of a range without objects.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RangeKind {
    /// There are none.
    NonExistent,
    /// Nothing.
    Unknown,
    /// Nothing, since FILL_TIMEOUT ran out. Drafts 20 and later.
    TimedOut,
}

/// What a fetch stream holds, in its order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Item {
    /// Once, first.
    Header(FetchHeader),
    /// An object's header, and as much of its payload as lies in the same chunk.
    Object {
        /// The object.
        header: FetchObject,
        /// The payload's beginning, a slice of the chunk pushed.
        payload: Bytes,
        /// Whether that is all of the payload.
        last: bool,
    },
    /// More of the object's payload, a slice of the chunk pushed.
    Payload {
        /// The bytes; not empty.
        bytes: Bytes,
        /// Whether the payload ends with them.
        last: bool,
    },
    /// Between the item before and `end`, inclusive, the stream has no objects.
    Range {
        /// Why.
        kind: RangeKind,
        /// The range's last location.
        end: Location,
    },
}

/// Reads a fetch stream chunk by chunk. Payload is never copied; a header that is split over
/// chunks is, into a buffer that grows with what arrives.
#[derive(Debug)]
pub struct Decoder {
    inbox: Inbox,
    state: State,
    context: Context,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Header,
    Record,
    Payload {
        /// Bytes to come; not 0.
        left: u64,
    },
}

impl Decoder {
    /// A decoder at the first byte of a stream whose groups come in `order`.
    pub fn new(version: Version, order: GroupOrder) -> Self {
        let context = Context::new(version, order);
        Self { inbox: Inbox::default(), state: State::Header, context }
    }

    /// Sets the order of the groups, once the header has told which request they answer.
    pub const fn set_order(&mut self, order: GroupOrder) {
        self.context.order = order;
    }

    /// Hands over the stream's next bytes.
    pub fn push(&mut self, chunk: Bytes) {
        self.inbox.push(chunk);
    }

    /// The next item; `None` until more bytes are pushed.
    ///
    /// # Errors
    /// If the bytes are no fetch stream. The decoder is of no use after it.
    pub fn poll(&mut self) -> Result<Option<Item>, DecodeError> {
        match self.state {
            State::Header => self.poll_header(),
            State::Record => self.poll_record(),
            State::Payload { left } => Ok(self.poll_payload(left)),
        }
    }

    fn poll_header(&mut self) -> Result<Option<Item>, DecodeError> {
        let Some(head) = self.inbox.poll_header(FetchHeader::parse)? else { return Ok(None) };
        let (header, _) = self.inbox.take_head(head);
        self.state = State::Record;
        Ok(Some(Item::Header(header)))
    }

    fn poll_record(&mut self) -> Result<Option<Item>, DecodeError> {
        let context = self.context;
        let parse = |scan: &mut Scan<'_>| Record::parse(scan, &context);
        let Some(head) = self.inbox.poll_header(parse)? else { return Ok(None) };
        let (record, wire) = self.inbox.take_head(head);
        self.context.location = Some(record.location());
        match record {
            Record::Range { kind, end } => Ok(Some(Item::Range { kind, end })),
            Record::Object { fields } => {
                let header = FetchObject {
                    location: fields.location,
                    subgroup: fields.subgroup,
                    priority: fields.priority,
                    properties: Properties::decode_object(wire.slice(fields.properties))?,
                    payload_length: fields.payload_length,
                };
                self.context.subgroup = fields.subgroup.or(self.context.subgroup);
                self.context.priority = Some(fields.priority);
                let payload = self.inbox.take(fields.payload_length);
                let last = self.expect_payload(fields.payload_length - payload.len() as u64);
                Ok(Some(Item::Object { header, payload, last }))
            }
        }
    }

    fn poll_payload(&mut self, left: u64) -> Option<Item> {
        let bytes = self.inbox.poll_payload(left)?;
        let last = self.expect_payload(left - bytes.len() as u64);
        Some(Item::Payload { bytes, last })
    }

    /// Whether an object with `left` bytes to come is complete.
    const fn expect_payload(&mut self, left: u64) -> bool {
        self.state = if left == 0 { State::Record } else { State::Payload { left } };
        left == 0
    }

    /// The stream's end is reached, and `poll` has said `None`.
    ///
    /// # Errors
    /// If it lies inside the header or a record.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.state {
            State::Record if self.inbox.is_empty() => Ok(()),
            State::Header | State::Record | State::Payload { .. } => {
                Err(Violation::StreamTruncated.into())
            }
        }
    }
}

/// Writes the records of a fetch stream, after [`FetchHeader::encode`], each in its shortest form.
#[derive(Clone, Debug)]
pub struct Encoder {
    context: Context,
}

impl Encoder {
    /// An encoder for a stream whose groups come in `order`.
    pub const fn new(version: Version, order: GroupOrder) -> Self {
        Self { context: Context::new(version, order) }
    }

    /// Appends an object up to its payload, which the caller sends after it. Nothing is appended
    /// if there is an error.
    ///
    /// # Errors
    /// If the object does not come after the item before, or its properties are too long.
    pub fn object(&mut self, object: &FetchObject, out: &mut BytesMut) -> Result<(), EncodeError> {
        if !self.context.precedes(object.location) {
            return Err(EncodeError::NotAscending);
        }
        let properties = object.properties.as_bytes();
        if PROPERTIES_LENGTH_MAX < properties.len() as u64 {
            return Err(EncodeError::TooLong("object properties"));
        }
        let (group_delta, object_delta) = self.deltas(object.location);
        let (subgroup_flags, subgroup) = self.subgroup(object.subgroup);
        let priority = (self.context.priority != Some(object.priority)).then_some(object.priority);
        let bits = [
            (group_delta.is_some(), flag::GROUP),
            (object_delta.is_some(), flag::OBJECT),
            (priority.is_some(), flag::PRIORITY),
            (!properties.is_empty(), flag::PROPERTIES),
        ];
        varint::encode(flags(subgroup_flags, bits), out);
        for number in [group_delta, subgroup, object_delta].into_iter().flatten() {
            varint::encode(number, out);
        }
        if let Some(priority) = priority {
            out.put_u8(priority);
        }
        if !properties.is_empty() {
            varint::encode(properties.len() as u64, out);
            out.put_slice(properties);
        }
        varint::encode(object.payload_length, out);
        self.context.location = Some(object.location);
        // A datagram has no subgroup that the next object could refer to.
        self.context.subgroup = object.subgroup;
        self.context.priority = Some(object.priority);
        Ok(())
    }

    /// The fields that lead to `location`, which comes after the item before.
    fn deltas(&self, location: Location) -> (Option<u64>, Option<u64>) {
        let (group, object) = (location.group.0, location.object.0);
        let Some(prior) = self.context.location else { return (Some(group), Some(object)) };
        let group_delta =
            (prior.group.0 != group).then(|| prior.group.0.abs_diff(group).saturating_sub(1));
        if prior.object.0.checked_add(1) == Some(object) {
            return (group_delta, None);
        }
        let base = if group_delta.is_some() { 0 } else { prior.object.0 };
        (group_delta, Some(object.saturating_sub(base)))
    }

    /// The flags of a subgroup, and its field.
    fn subgroup(&self, subgroup: Option<SubgroupId>) -> (u64, Option<u64>) {
        let Some(subgroup) = subgroup else { return (flag::DATAGRAM, None) };
        match self.context.subgroup {
            _ if subgroup.0 == 0 => (0, None),
            Some(prior) if prior == subgroup => (flag::SUBGROUP_PRIOR, None),
            Some(prior) if prior.0.checked_add(1) == Some(subgroup.0) => {
                (flag::SUBGROUP_NEXT, None)
            }
            Some(_) | None => (flag::SUBGROUP_EXPLICIT, Some(subgroup.0)),
        }
    }

    /// Appends a range without objects, from the item before to `end`. Nothing is appended if
    /// there is an error.
    ///
    /// # Errors
    /// If `end` does not come after the item before, or the draft has no such kind.
    pub fn range(
        &mut self,
        kind: RangeKind,
        end: Location,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        if !kind.is_supported(self.context.version) {
            return Err(EncodeError::Unsupported("a range that timed out"));
        }
        if !self.context.precedes(end) {
            return Err(EncodeError::NotAscending);
        }
        varint::encode(kind.flags(), out);
        end.encode(out);
        self.context.location = Some(end);
        Ok(())
    }
}
