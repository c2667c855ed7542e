//! Fetch streams (draft-22 section 11.4.1): a header, then objects and ranges without objects.

use bytes::{Bytes, BytesMut};

use crate::{
    error::{DecodeError, EncodeError},
    moqt::{
        id::{RequestId, SubgroupId},
        location::Location,
        parameter::GroupOrder,
        property::Properties,
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
    /// Appends the header.
    pub fn encode(&self, out: &mut BytesMut) {
        todo!("{out:?}")
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

/// Reads a fetch stream chunk by chunk. Payload is never copied.
#[derive(Debug)]
pub struct Decoder {}

impl Decoder {
    /// A decoder at the first byte of a stream whose groups come in `order`.
    pub fn new(version: Version, order: GroupOrder) -> Self {
        todo!("{version:?} {order:?}")
    }

    /// Hands over the stream's next bytes.
    pub fn push(&mut self, chunk: Bytes) {
        todo!("{chunk:?}")
    }

    /// The next item; `None` until more bytes are pushed.
    ///
    /// # Errors
    /// If the bytes are no fetch stream. The decoder is of no use after it.
    pub fn poll(&mut self) -> Result<Option<Item>, DecodeError> {
        todo!()
    }

    /// The stream's end is reached, and `poll` has said `None`.
    ///
    /// # Errors
    /// If it lies inside the header or a record.
    pub fn finish(&self) -> Result<(), DecodeError> {
        todo!()
    }
}

/// Writes the records of a fetch stream, after [`FetchHeader::encode`], each in its shortest form.
#[derive(Clone, Debug)]
pub struct Encoder {}

impl Encoder {
    /// An encoder for a stream whose groups come in `order`.
    pub const fn new(version: Version, order: GroupOrder) -> Self {
        let _ = (version, order);
        Self {}
    }

    /// Appends an object up to its payload, which the caller sends after it. Nothing is appended
    /// if there is an error.
    ///
    /// # Errors
    /// If the object does not come after the item before.
    pub fn object(&mut self, object: &FetchObject, out: &mut BytesMut) -> Result<(), EncodeError> {
        todo!("{object:?} {out:?}")
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
        todo!("{kind:?} {end:?} {out:?}")
    }
}
