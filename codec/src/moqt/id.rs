//! The numbers that MOQT hands out, each a type of its own.

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub u64);

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

number! {
    /// A request's number in its session: even from the client, odd from the server.
    RequestId
}
number! {
    /// A track's short name in one session, chosen by its publisher. Not a request's number.
    TrackAlias
}
number! {
    /// A group's number in its track. Not a count and not an index into a cache.
    GroupId
}
number! {
    /// A subgroup's number in its group.
    SubgroupId
}
number! {
    /// An object's number in its group, over all subgroups.
    ObjectId
}
