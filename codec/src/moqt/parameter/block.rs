//! Blocks of parameters: their count, then each as type delta and value.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    GroupOrder, IDEMPOTENCY_KEY_LENGTH_MAX, Parameter, Parameters,
    table::{self, Place},
};
use crate::{
    cursor::{Cursor, exactly},
    error::{DecodeError, EncodeError, Violation},
    moqt::{message::MessageType, varint, version::Version},
};

/// The smallest type that a parameter of a fill has: FILL_TIMEOUT's.
const FILL_TYPE_MIN: u64 = 0x0a;

impl Parameters {
    /// The next block of parameters: their count, and they.
    ///
    /// # Errors
    /// If the bytes end before it does, or a parameter is unknown, repeats, has no place in
    /// `message`, or has a value it cannot have.
    pub fn decode(
        cursor: &mut Cursor,
        version: Version,
        message: MessageType,
    ) -> Result<Self, DecodeError> {
        Self::decode_counted(cursor, version, Place::Message(message))
    }

    fn decode_counted(
        cursor: &mut Cursor,
        version: Version,
        place: Place,
    ) -> Result<Self, DecodeError> {
        let count = cursor.varint()?;
        let mut parameters = Self::new();
        for _ in 0..count {
            parameters.decode_next(cursor, version, place)?;
        }
        Ok(parameters)
    }

    /// The value of FILL_PARAMETERS. The draft leaves open whether the count stands before the
    /// parameters: we write it, and read both. Where both make sense, it stands there.
    pub(super) fn decode_fill(block: &Bytes, version: Version) -> Result<Self, DecodeError> {
        let counted = exactly(block.clone(), Violation::FillParameters, |cursor| {
            Self::decode_counted(cursor, version, Place::Fill)
        });
        let is_count = varint::decode(block).is_ok_and(|(first, _)| first < FILL_TYPE_MIN);
        if is_count || counted.is_ok() {
            return counted;
        }
        exactly(block.clone(), Violation::FillParameters, |cursor| {
            let mut parameters = Self::new();
            while !cursor.is_empty() {
                parameters.decode_next(cursor, version, Place::Fill)?;
            }
            Ok(parameters)
        })
    }

    fn decode_next(
        &mut self,
        cursor: &mut Cursor,
        version: Version,
        place: Place,
    ) -> Result<(), DecodeError> {
        let previous_type = self.list.last().map(Parameter::wire_type);
        let wire_type = previous_type.unwrap_or_default().checked_add(cursor.varint()?);
        let wire_type = wire_type.ok_or(Violation::ParameterTypeOverflow)?;
        let row = table::find(version, wire_type).ok_or(Violation::ParameterUnknown)?;
        if !row.is_allowed(version, place) {
            return Err(Violation::ParameterOutOfScope.into());
        }
        if previous_type == Some(wire_type) && !row.repeats {
            return Err(Violation::ParameterDuplicate.into());
        }
        self.list.push((row.decode)(cursor, version)?);
        Ok(())
    }

    /// Appends the block: count, and parameters.
    ///
    /// # Errors
    /// If the draft has no form for a parameter, or no place for it in `message`.
    pub fn encode(
        &self,
        version: Version,
        message: MessageType,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        self.encode_counted(version, Place::Message(message), out)
    }

    fn encode_counted(
        &self,
        version: Version,
        place: Place,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        varint::encode(self.list.len() as u64, out);
        let mut previous_type = 0;
        for parameter in &self.list {
            let wire_type = parameter.wire_type();
            let row = table::find(version, wire_type).filter(|row| row.is_allowed(version, place));
            if row.is_none() {
                return Err(EncodeError::Unsupported(parameter.name()));
            }
            varint::encode(wire_type - previous_type, out);
            previous_type = wire_type;
            parameter.encode_value(version, out)?;
        }
        Ok(())
    }
}

impl Parameter {
    fn encode_value(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::ObjectDeliveryTimeout(value)
            | Self::RendezvousTimeout(value)
            | Self::SubgroupDeliveryTimeout(value)
            | Self::Expires(value)
            | Self::FillTimeout(value)
            | Self::NewGroupRequest(value)
            | Self::Deadline(value)
            | Self::Cost(value)
            | Self::ResumeAfter(value) => varint::encode(*value, out),
            Self::AuthorizationToken(token) => {
                varint::encode(token.encoded_length() as u64, out);
                token.encode(out);
            }
            Self::LargestObject(location) => location.encode(out),
            Self::Forward(value) | Self::IncludeProperties(value) => out.put_u8(u8::from(*value)),
            Self::SubscriberPriority(priority) => out.put_u8(*priority),
            Self::LocationFilter(filter) => filter.encode(version, out)?,
            Self::GroupOrder(GroupOrder::Ascending) => out.put_u8(1),
            Self::GroupOrder(GroupOrder::Descending) => out.put_u8(2),
            Self::FillParameters(parameters) => {
                let mut block = BytesMut::new();
                parameters.encode_counted(version, Place::Fill, &mut block)?;
                encode_prefixed(&block, out);
            }
            Self::SubgroupFilter(filter)
            | Self::ObjectIdFilter(filter)
            | Self::PriorityFilter(filter)
            | Self::ObjectPropertyFilter(filter)
            | Self::TrackPropertyFilter(filter) => encode_prefixed(&filter.raw, out),
            Self::TrackNamespacePrefix(prefix) => prefix.encode(out),
            Self::IdempotencyKey(key) => {
                if IDEMPOTENCY_KEY_LENGTH_MAX < key.len() {
                    return Err(EncodeError::TooLong(self.name()));
                }
                encode_prefixed(key, out);
            }
            Self::ContentType(content_type) => encode_prefixed(content_type, out),
            Self::Hops(hops) => encode_prefixed(&hops.encode(), out),
            Self::TraceContext(context) => encode_prefixed(&context.to_bytes(), out),
        }
        Ok(())
    }
}

fn encode_prefixed(bytes: &[u8], out: &mut BytesMut) {
    varint::encode(bytes.len() as u64, out);
    out.put_slice(bytes);
}
