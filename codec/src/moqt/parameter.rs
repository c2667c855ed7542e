//! Message parameters (draft-22 section 9.20): hop by hop, never forwarded.

mod block;
mod table;

use bytes::Bytes;

use crate::aip::{hops::Hops, trace::TraceContext};

use super::{
    filter::{LocationFilter, RangeFilter},
    location::Location,
    name::TrackNamespace,
    token::Token,
    version::Version,
};

/// Bytes that an IDEMPOTENCY_KEY may have.
pub const IDEMPOTENCY_KEY_LENGTH_MAX: usize = 64;

/// The order in which groups are sent.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum GroupOrder {
    /// Oldest first.
    #[default]
    Ascending,
    /// Newest first.
    Descending,
}

/// One parameter. Its wire type is in its doc.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Parameter {
    /// 0x02, milliseconds; 0 is none.
    ObjectDeliveryTimeout(u64),
    /// 0x03, may repeat.
    AuthorizationToken(Token),
    /// 0x04, milliseconds.
    RendezvousTimeout(u64),
    /// 0x06, milliseconds; 0 is none.
    SubgroupDeliveryTimeout(u64),
    /// 0x08, milliseconds; 0 is unknown.
    Expires(u64),
    /// 0x09.
    LargestObject(Location),
    /// 0x0A, milliseconds.
    FillTimeout(u64),
    /// 0x10.
    Forward(bool),
    /// 0x20, lower is sooner.
    SubscriberPriority(u8),
    /// 0x21.
    LocationFilter(LocationFilter),
    /// 0x22.
    GroupOrder(GroupOrder),
    /// 0x23, drafts 20 and later: parameters of a fill.
    FillParameters(Parameters),
    /// 0x25, drafts 19 and later, may repeat.
    SubgroupFilter(RangeFilter),
    /// 0x26, drafts 19 and later, may repeat.
    ObjectIdFilter(RangeFilter),
    /// 0x27, drafts 19 and later, may repeat.
    PriorityFilter(RangeFilter),
    /// 0x28, drafts 19 and later, may repeat.
    ObjectPropertyFilter(RangeFilter),
    /// 0x29, drafts 19 and later, may repeat.
    TrackPropertyFilter(RangeFilter),
    /// 0x32: the group after the largest one known; 0 is unknown.
    NewGroupRequest(u64),
    /// 0x34.
    TrackNamespacePrefix(TrackNamespace),
    /// 0x35, drafts 20 and later.
    IncludeProperties(bool),
    /// 0x4A2, only in CALL: milliseconds left.
    Deadline(u64),
    /// 0x4A4, only in CALL: at most 64 bytes.
    IdempotencyKey(Bytes),
    /// 0x4A6, only in CALL; absent is `json`.
    ContentType(Bytes),
    /// 0x4A8, only between relays that have both told RELAY_ID.
    Hops(Hops),
    /// 0x4AA, only between relays that have both told RELAY_ID.
    Cost(u64),
    /// 0x4AC, only in CALL: messages of an earlier call with the same key that came.
    ResumeAfter(u64),
    /// 0x4AE, only in CALL: 25 bytes.
    TraceContext(TraceContext),
}

/// A message's parameters, ascending by wire type.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Parameters {
    pub(crate) list: Vec<Parameter>,
}

impl Parameters {
    /// No parameters.
    pub const fn new() -> Self {
        Self { list: Vec::new() }
    }

    /// These and `parameter`; see [`Self::push`].
    #[must_use]
    pub fn with(mut self, parameter: Parameter) -> Self {
        self.push(parameter);
        self
    }

    /// Adds `parameter` in the order of the wire. One that must not repeat replaces the one there
    /// was; others keep the order in which they were added.
    pub fn push(&mut self, parameter: Parameter) {
        let wire_type = parameter.wire_type();
        let end = self.list.partition_point(|before| before.wire_type() <= wire_type);
        let last = end.checked_sub(1).and_then(|index| self.list.get_mut(index));
        match last {
            Some(last) if last.wire_type() == wire_type && !parameter.repeats() => {
                *last = parameter;
            }
            _ => self.list.insert(end, parameter),
        }
    }

    /// The parameters, ascending by wire type.
    pub fn iter(&self) -> std::slice::Iter<'_, Parameter> {
        self.list.iter()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl Parameter {
    /// The type on the wire.
    pub const fn wire_type(&self) -> u64 {
        match self {
            Self::ObjectDeliveryTimeout(_) => 0x02,
            Self::AuthorizationToken(_) => 0x03,
            Self::RendezvousTimeout(_) => 0x04,
            Self::SubgroupDeliveryTimeout(_) => 0x06,
            Self::Expires(_) => 0x08,
            Self::LargestObject(_) => 0x09,
            Self::FillTimeout(_) => 0x0a,
            Self::Forward(_) => 0x10,
            Self::SubscriberPriority(_) => 0x20,
            Self::LocationFilter(_) => 0x21,
            Self::GroupOrder(_) => 0x22,
            Self::FillParameters(_) => 0x23,
            Self::SubgroupFilter(_) => 0x25,
            Self::ObjectIdFilter(_) => 0x26,
            Self::PriorityFilter(_) => 0x27,
            Self::ObjectPropertyFilter(_) => 0x28,
            Self::TrackPropertyFilter(_) => 0x29,
            Self::NewGroupRequest(_) => 0x32,
            Self::TrackNamespacePrefix(_) => 0x34,
            Self::IncludeProperties(_) => 0x35,
            Self::Deadline(_) => 0x4a2,
            Self::IdempotencyKey(_) => 0x4a4,
            Self::ContentType(_) => 0x4a6,
            Self::Hops(_) => 0x4a8,
            Self::Cost(_) => 0x4aa,
            Self::ResumeAfter(_) => 0x4ac,
            Self::TraceContext(_) => 0x4ae,
        }
    }

    /// The draft's name of it.
    pub fn name(&self) -> &'static str {
        self.row().map_or("", |row| row.name)
    }

    /// Whether a message may have several.
    pub fn repeats(&self) -> bool {
        self.row().is_some_and(|row| row.repeats)
    }

    fn row(&self) -> Option<&'static table::Row> {
        table::find(Version::Draft22, self.wire_type())
    }
}

macro_rules! values {
    ($($(#[$doc:meta])* $getter:ident: $variant:ident -> $value:ty,)+) => {
        impl Parameters {
            $(
                $(#[$doc])*
                pub fn $getter(&self) -> Option<$value> {
                    self.list.iter().find_map(|parameter| match parameter {
                        Parameter::$variant(value) => Some(*value),
                        _ => None,
                    })
                }
            )+
        }
    };
}

macro_rules! references {
    ($($(#[$doc:meta])* $getter:ident: $variant:ident -> $value:ty,)+) => {
        impl Parameters {
            $(
                $(#[$doc])*
                pub fn $getter(&self) -> Option<&$value> {
                    self.list.iter().find_map(|parameter| match parameter {
                        Parameter::$variant(value) => Some(value),
                        _ => None,
                    })
                }
            )+
        }
    };
}

macro_rules! repeated {
    ($($(#[$doc:meta])* $getter:ident: $variant:ident -> $value:ty,)+) => {
        impl Parameters {
            $(
                $(#[$doc])*
                pub fn $getter(&self) -> impl Iterator<Item = &$value> {
                    self.list.iter().filter_map(|parameter| match parameter {
                        Parameter::$variant(value) => Some(value),
                        _ => None,
                    })
                }
            )+
        }
    };
}

values! {
    /// OBJECT_DELIVERY_TIMEOUT in milliseconds; 0 is none.
    object_delivery_timeout: ObjectDeliveryTimeout -> u64,
    /// RENDEZVOUS_TIMEOUT in milliseconds; absent is 0: do not wait for a publisher.
    rendezvous_timeout: RendezvousTimeout -> u64,
    /// SUBGROUP_DELIVERY_TIMEOUT in milliseconds; 0 is none.
    subgroup_delivery_timeout: SubgroupDeliveryTimeout -> u64,
    /// EXPIRES in milliseconds; 0 is unknown.
    expires: Expires -> u64,
    /// LARGEST_OBJECT; absent if there is no object yet.
    largest_object: LargestObject -> Location,
    /// FILL_TIMEOUT in milliseconds; 0 is what is there at once, absent is the relay's choice.
    fill_timeout: FillTimeout -> u64,
    /// FORWARD; absent is true in a request, no change in an update.
    forward: Forward -> bool,
    /// SUBSCRIBER_PRIORITY, lower is sooner; absent is 128.
    subscriber_priority: SubscriberPriority -> u8,
    /// LOCATION_FILTER; absent is everything in a request, no change in an update.
    location_filter: LocationFilter -> LocationFilter,
    /// GROUP_ORDER; absent is the publisher's for a subscription, ascending for a fetch.
    group_order: GroupOrder -> GroupOrder,
    /// NEW_GROUP_REQUEST: the group after the largest one known; 0 is unknown.
    new_group_request: NewGroupRequest -> u64,
    /// INCLUDE_PROPERTIES; absent is true.
    include_properties: IncludeProperties -> bool,
    /// DEADLINE of a CALL: milliseconds left.
    deadline: Deadline -> u64,
    /// COST of what a relay announces, from where it is published to the sender; absent is 0.
    cost: Cost -> u64,
    /// RESUME_AFTER of a CALL that is repeated: how many of its messages came before.
    resume_after: ResumeAfter -> u64,
    /// TRACE_CONTEXT of a CALL: the span that it belongs to.
    trace_context: TraceContext -> TraceContext,
}

references! {
    /// FILL_PARAMETERS; there only to ask for a fill.
    fill_parameters: FillParameters -> Parameters,
    /// TRACK_NAMESPACE_PREFIX; absent is no change.
    track_namespace_prefix: TrackNamespacePrefix -> TrackNamespace,
    /// IDEMPOTENCY_KEY of a CALL; absent if it must not be repeated.
    idempotency_key: IdempotencyKey -> Bytes,
    /// CONTENT_TYPE of a CALL; absent is `json`.
    content_type: ContentType -> Bytes,
    /// HOPS: the relays passed, the sender last.
    hops: Hops -> Hops,
}

repeated! {
    /// AUTHORIZATION_TOKEN.
    authorization_tokens: AuthorizationToken -> Token,
    /// SUBGROUP_FILTER.
    subgroup_filters: SubgroupFilter -> RangeFilter,
    /// OBJECTID_FILTER.
    object_id_filters: ObjectIdFilter -> RangeFilter,
    /// PRIORITY_FILTER.
    priority_filters: PriorityFilter -> RangeFilter,
    /// OBJECT_PROPERTY_FILTER.
    object_property_filters: ObjectPropertyFilter -> RangeFilter,
    /// TRACK_PROPERTY_FILTER.
    track_property_filters: TrackPropertyFilter -> RangeFilter,
}
