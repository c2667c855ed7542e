//! FETCH and FETCH_OK (draft-22 sections 9.11 and 9.12; another body in drafts 18 and 19).

use bytes::{BufMut as _, BytesMut};

use super::MessageType;
use crate::{
    cursor::Cursor,
    error::{DecodeError, EncodeError, Violation},
    moqt::{
        id::RequestId, location::Location, name::FullTrackName, parameter::Parameters,
        property::Properties, varint, version::Version,
    },
};

/// The sender wants objects that are already there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fetch {
    /// The request's number.
    pub request_id: RequestId,
    /// The track, and in drafts 18 and 19 the range.
    pub target: FetchTarget,
    /// What of it, and how.
    pub parameters: Parameters,
}

/// What a FETCH is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FetchTarget {
    /// A track; the range is the parameter LOCATION_FILTER. Drafts 20 and later.
    Track(FullTrackName),
    /// A range of a track. Drafts 18 and 19.
    Standalone {
        /// The track.
        track: FullTrackName,
        /// First location wanted.
        start: Location,
        /// As on the wire: the last object's number plus 1, or 0 for the whole group.
        end: Location,
    },
    /// What came before a subscription. Drafts 18 and 19.
    Joining {
        /// Whether `start` counts groups backwards from the subscription's first.
        relative: bool,
        /// The subscription.
        request_id: RequestId,
        /// First group wanted, or groups before the subscription's first.
        start: u64,
    },
}

const STANDALONE: u64 = 1;
const RELATIVE_JOINING: u64 = 2;
const ABSOLUTE_JOINING: u64 = 3;

impl FetchTarget {
    fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        if Version::Draft20 <= version {
            return FullTrackName::decode(body).map(Self::Track);
        }
        let fetch_type = body.varint()?;
        match fetch_type {
            STANDALONE => Ok(Self::Standalone {
                track: FullTrackName::decode(body)?,
                start: Location::decode(body)?,
                end: Location::decode(body)?,
            }),
            RELATIVE_JOINING | ABSOLUTE_JOINING => Ok(Self::Joining {
                relative: fetch_type == RELATIVE_JOINING,
                request_id: RequestId(body.varint()?),
                start: body.varint()?,
            }),
            _ => Err(Violation::FetchType.into()),
        }
    }

    fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        match (self, Version::Draft20 <= version) {
            (Self::Track(track), true) => track.encode(out),
            (Self::Standalone { track, start, end }, false) => {
                varint::encode(STANDALONE, out);
                track.encode(out);
                start.encode(out);
                end.encode(out);
            }
            (Self::Joining { relative, request_id, start }, false) => {
                varint::encode(if *relative { RELATIVE_JOINING } else { ABSOLUTE_JOINING }, out);
                varint::encode(request_id.0, out);
                varint::encode(*start, out);
            }
            (Self::Track(_), false) => return Err(EncodeError::Unsupported("FETCH of a track")),
            (Self::Standalone { .. }, true) => {
                return Err(EncodeError::Unsupported("standalone FETCH"));
            }
            (Self::Joining { .. }, true) => return Err(EncodeError::Unsupported("joining FETCH")),
        }
        Ok(())
    }
}

impl Fetch {
    pub(super) fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        Ok(Self {
            request_id: RequestId(body.varint()?),
            target: FetchTarget::decode(version, body)?,
            parameters: Parameters::decode(body, version, MessageType::Fetch)?,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        varint::encode(self.request_id.0, out);
        self.target.encode(version, out)?;
        self.parameters.encode(version, MessageType::Fetch, out)
    }
}

/// The answer to FETCH: what its data stream will hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FetchOk {
    /// Whether `end` is the end of the track.
    pub end_of_track: bool,
    /// As on the wire: the last location, inclusive, in drafts 20 and later; in 18 and 19 the last
    /// object's number plus 1, or 0 for the whole group.
    pub end: Location,
    /// None is defined.
    pub parameters: Parameters,
    /// The track's properties.
    pub properties: Properties,
}

impl FetchOk {
    pub(super) fn decode(version: Version, body: &mut Cursor) -> Result<Self, DecodeError> {
        let end_of_track = match body.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Violation::EndOfTrack.into()),
        };
        Ok(Self {
            end_of_track,
            end: Location::decode(body)?,
            parameters: Parameters::decode(body, version, MessageType::FetchOk)?,
            properties: Properties::decode(body.rest())?,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u8(u8::from(self.end_of_track));
        self.end.encode(out);
        self.parameters.encode(version, MessageType::FetchOk, out)?;
        out.put_slice(self.properties.as_bytes());
        Ok(())
    }
}
