//! What a number is: name, kind, unit and help, written once for the field and its exposition.

/// How a number moves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Grows for ever; its exposed name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes; the exposed name says so.
    Bytes,
    /// Nanoseconds; exposed as seconds.
    Nanoseconds,
}

/// What one family of numbers is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Description {
    /// Its name without prefix, unit and `_total`.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// What it says, for people.
    pub help: &'static str,
}

/// A structure of plain integers, each with its description.
macro_rules! counters {
    (
        $(#[$doc:meta])*
        $structure:ident {
            $($field:ident: $kind:ident $unit:ident $name:literal $help:literal,)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, Eq, PartialEq)]
        #[non_exhaustive]
        pub struct $structure {
            $(
                #[doc = $help]
                pub $field: u64,
            )+
        }

        impl $structure {
            /// Adds each number of another one of its kind.
            pub const fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)+
            }

            /// Every number and what it is.
            pub fn iter(&self) -> impl Iterator<Item = ($crate::metrics::Description, u64)> {
                [
                    $((
                        $crate::metrics::Description {
                            name: $name,
                            kind: $crate::metrics::Kind::$kind,
                            unit: $crate::metrics::Unit::$unit,
                            help: $help,
                        },
                        self.$field,
                    ),)+
                ]
                .into_iter()
            }
        }
    };
}

pub(super) use counters;
