//! Track and object properties (draft-22 section 10): key-value pairs, mostly opaque to a relay.

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::{
    key_value::{self, KeyValue, Pairs, PairsRef, ValueRef},
    parameter::GroupOrder,
};
use crate::error::{DecodeError, EncodeError, Violation};

/// Milliseconds after which an object is not worth delivering; 0 is none.
pub const OBJECT_DELIVERY_TIMEOUT: u64 = 0x02;
/// Milliseconds for which a relay may hold an object; absent is no limit.
pub const MAX_CACHE_DURATION: u64 = 0x04;
/// Milliseconds after which a finished subgroup is not worth delivering; 0 is none.
pub const SUBGROUP_DELIVERY_TIMEOUT: u64 = 0x06;
/// A block of pairs that no relay changes.
pub const IMMUTABLE_PROPERTIES: u64 = 0x0b;
/// 0 to 255; absent is 128.
pub const DEFAULT_PUBLISHER_PRIORITY: u64 = 0x0e;
/// 1 ascending, 2 descending; absent is 1.
pub const DEFAULT_PUBLISHER_GROUP_ORDER: u64 = 0x22;
/// 1 if a subscriber may ask for a new group; absent is 0.
pub const DYNAMIC_GROUPS: u64 = 0x30;
/// Groups right before the object's that do not exist.
pub const PRIOR_GROUP_ID_GAP: u64 = 0x3c;
/// Objects right before the object in its group that do not exist.
pub const PRIOR_OBJECT_ID_GAP: u64 = 0x3e;
/// Track properties that whoever takes the track has to understand.
pub const MANDATORY_TRACK_PROPERTIES: RangeInclusive<u64> = 0x4000..=0x7fff;

/// The publisher's priority where neither track nor stream states one.
pub const PUBLISHER_PRIORITY_DEFAULT: u8 = 128;

/// A block of key-value pairs exactly as it came, so that what is not understood goes on unchanged.
///
/// Holds only blocks that parse: made by [`Self::decode`] and [`Self::decode_object`], which walk
/// the pairs once, or by [`Self::builder`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Properties {
    pub(crate) block: Bytes,
}

/// IMMUTABLE_PROPERTIES that are no block of pairs, nested, or there twice. The track is
/// malformed; the session is not.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("malformed immutable properties")]
pub struct MalformedImmutableProperties;

impl Properties {
    /// The track properties whose block is `block`, all of it. No copy.
    ///
    /// # Errors
    /// If the block ends inside a pair, or a property has a value it cannot have. That goes for
    /// IMMUTABLE_PROPERTIES too, if they parse: see [`Self::check_immutable`].
    pub fn decode(block: Bytes) -> Result<Self, DecodeError> {
        for pair in PairsRef::new(&block) {
            let (key_type, value) = pair?;
            match value {
                ValueRef::Integer(value) => check_value(key_type, value)?,
                ValueRef::Bytes(inner) if key_type == IMMUTABLE_PROPERTIES => {
                    check_inner_values(inner)?;
                }
                ValueRef::Bytes(_) => {}
            }
        }
        Ok(Self { block })
    }

    /// The object properties whose block is `block`, all of it. No copy. Values are not looked
    /// at, because those that have rules are a track's.
    ///
    /// # Errors
    /// If the block ends inside a pair.
    pub fn decode_object(block: Bytes) -> Result<Self, DecodeError> {
        for pair in PairsRef::new(&block) {
            pair?;
        }
        Ok(Self { block })
    }

    /// No properties.
    pub const fn empty() -> Self {
        Self { block: Bytes::new() }
    }

    /// Makes properties.
    pub const fn builder() -> Builder {
        Builder { pairs: key_value::Builder::new() }
    }

    /// The block.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.block
    }

    /// Whether there is no pair.
    pub const fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// The pairs, without those inside IMMUTABLE_PROPERTIES. No copy.
    pub fn iter(&self) -> impl Iterator<Item = KeyValue> {
        Pairs::new(&self.block).filter_map(Result::ok)
    }

    /// The pairs, each of IMMUTABLE_PROPERTIES in its place.
    fn pairs(&self) -> impl Iterator<Item = (u64, ValueRef<'_>)> {
        PairsRef::new(&self.block).filter_map(Result::ok).flat_map(|(key_type, value)| {
            let inner = match value {
                ValueRef::Bytes(block) if key_type == IMMUTABLE_PROPERTIES => block,
                ValueRef::Bytes(_) | ValueRef::Integer(_) => &[],
            };
            std::iter::once((key_type, value)).chain(PairsRef::new(inner).filter_map(Result::ok))
        })
    }

    /// The first integer of this type, IMMUTABLE_PROPERTIES included.
    pub fn integer(&self, key_type: u64) -> Option<u64> {
        self.pairs().find_map(|(this_type, value)| match value {
            ValueRef::Integer(integer) if this_type == key_type => Some(integer),
            ValueRef::Integer(_) | ValueRef::Bytes(_) => None,
        })
    }

    /// The first bytes of this type, IMMUTABLE_PROPERTIES included. No copy.
    pub fn bytes(&self, key_type: u64) -> Option<Bytes> {
        self.pairs().find_map(|(this_type, value)| match value {
            ValueRef::Bytes(bytes) if this_type == key_type => Some(self.block.slice_ref(bytes)),
            ValueRef::Bytes(_) | ValueRef::Integer(_) => None,
        })
    }

    /// Whether IMMUTABLE_PROPERTIES, if there, are what they have to be.
    ///
    /// # Errors
    /// If they are there twice, do not parse, or hold IMMUTABLE_PROPERTIES.
    pub fn check_immutable(&self) -> Result<(), MalformedImmutableProperties> {
        let mut seen = false;
        for (key_type, value) in PairsRef::new(&self.block).filter_map(Result::ok) {
            let ValueRef::Bytes(inner) = value else { continue };
            if key_type != IMMUTABLE_PROPERTIES {
                continue;
            }
            let inner_is_sound = PairsRef::new(inner)
                .all(|pair| pair.is_ok_and(|(inner_type, _)| inner_type != IMMUTABLE_PROPERTIES));
            if seen || !inner_is_sound {
                return Err(MalformedImmutableProperties);
            }
            seen = true;
        }
        Ok(())
    }

    /// DEFAULT_PUBLISHER_PRIORITY, lower is sooner; 128.
    pub fn default_publisher_priority(&self) -> u8 {
        self.integer(DEFAULT_PUBLISHER_PRIORITY)
            .and_then(|priority| u8::try_from(priority).ok())
            .unwrap_or(PUBLISHER_PRIORITY_DEFAULT)
    }

    /// DEFAULT_PUBLISHER_GROUP_ORDER; ascending.
    pub fn default_group_order(&self) -> GroupOrder {
        match self.integer(DEFAULT_PUBLISHER_GROUP_ORDER) {
            Some(2) => GroupOrder::Descending,
            _ => GroupOrder::Ascending,
        }
    }

    /// Whether a subscriber may ask for a new group.
    pub fn dynamic_groups(&self) -> bool {
        self.integer(DYNAMIC_GROUPS) == Some(1)
    }

    /// Milliseconds for which a relay may hold an object; `None` is no limit.
    pub fn max_cache_duration(&self) -> Option<u64> {
        self.integer(MAX_CACHE_DURATION)
    }

    /// OBJECT_DELIVERY_TIMEOUT in milliseconds; 0 is none.
    pub fn object_delivery_timeout(&self) -> Option<u64> {
        self.integer(OBJECT_DELIVERY_TIMEOUT)
    }

    /// SUBGROUP_DELIVERY_TIMEOUT in milliseconds; 0 is none.
    pub fn subgroup_delivery_timeout(&self) -> Option<u64> {
        self.integer(SUBGROUP_DELIVERY_TIMEOUT)
    }

    /// The type of the first Mandatory Track Property. MOQT defines none yet, so that all of
    /// them are unknown.
    pub fn unknown_mandatory_track_property(&self) -> Option<u64> {
        self.pairs()
            .map(|(key_type, _)| key_type)
            .find(|key_type| MANDATORY_TRACK_PROPERTIES.contains(key_type))
    }

    /// Groups right before the object's that do not exist.
    pub fn prior_group_id_gap(&self) -> Option<u64> {
        self.integer(PRIOR_GROUP_ID_GAP)
    }

    /// Objects right before the object in its group that do not exist.
    pub fn prior_object_id_gap(&self) -> Option<u64> {
        self.integer(PRIOR_OBJECT_ID_GAP)
    }
}

/// Whether the properties in IMMUTABLE_PROPERTIES, if they parse, may have their values.
fn check_inner_values(block: &[u8]) -> Result<(), Violation> {
    if PairsRef::new(block).any(|pair| pair.is_err()) {
        return Ok(());
    }
    for (key_type, value) in PairsRef::new(block).filter_map(Result::ok) {
        if let ValueRef::Integer(value) = value {
            check_value(key_type, value)?;
        }
    }
    Ok(())
}

/// Whether a track property may have this value.
fn check_value(key_type: u64, value: u64) -> Result<(), Violation> {
    match key_type {
        DEFAULT_PUBLISHER_PRIORITY if u64::from(u8::MAX) < value => {
            Err(Violation::DefaultPublisherPriority)
        }
        DEFAULT_PUBLISHER_GROUP_ORDER if !matches!(value, 1 | 2) => {
            Err(Violation::DefaultGroupOrder)
        }
        DYNAMIC_GROUPS if 1 < value => Err(Violation::DynamicGroups),
        _ => Ok(()),
    }
}

/// Makes [`Properties`], in whatever order they are given.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    pairs: key_value::Builder,
}

impl Builder {
    /// Adds an integer; `key_type` is even.
    #[must_use]
    pub fn integer(self, key_type: u64, value: u64) -> Self {
        Self { pairs: self.pairs.integer(key_type, value) }
    }

    /// Adds bytes; `key_type` is odd.
    #[must_use]
    pub fn bytes(self, key_type: u64, value: impl Into<Bytes>) -> Self {
        Self { pairs: self.pairs.bytes(key_type, value) }
    }

    /// Adds a pair.
    #[must_use]
    pub fn pair(self, pair: KeyValue) -> Self {
        Self { pairs: self.pairs.pair(pair) }
    }

    /// The properties.
    ///
    /// # Errors
    /// If a type's parity is not its value's, bytes are more than 65,535, or a track property has
    /// a value it cannot have.
    pub fn build(self) -> Result<Properties, EncodeError> {
        Properties::decode(self.pairs.build()?)
            .map_err(|_| EncodeError::OutOfRange("a property's value"))
    }
}
