//! Every case of `aip-conformance`, in every draft, against our own relay on 127.0.0.1: of several
//! workers, which is how it mostly runs, and once of one.

#[cfg(test)]
mod cases;
#[cfg(test)]
mod command;
