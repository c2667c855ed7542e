//! The peer's control stream.

use bytes::Bytes;

use super::{
    error::{Code, Fault},
    frame::{Frame, FrameReader, Place},
    settings::Settings,
};

const MAX_PUSH_ID: u64 = 0xd;

/// The peer's control stream as it is read.
#[derive(Debug)]
pub(in crate::io) struct Control {
    reader: FrameReader,
    /// Whether we are the server, who alone is told of pushes.
    at_server: bool,
    settings: Option<Settings>,
    push_id_max: u64,
}

impl Control {
    /// Nothing was read yet.
    pub(in crate::io) fn new(at_server: bool) -> Self {
        let reader = FrameReader::new(Place::Control);
        Self { reader, at_server, settings: None, push_id_max: 0 }
    }

    /// The peer's settings, once they are here.
    pub(in crate::io) const fn settings(&self) -> Option<Settings> {
        self.settings
    }

    /// Reads what came.
    ///
    /// # Errors
    /// If SETTINGS does not come first, and once; or if a frame has no place.
    pub(in crate::io) fn receive(&mut self, bytes: Bytes) -> Result<(), Fault> {
        self.reader.push(bytes);
        loop {
            let frame = match self.reader.poll() {
                Ok(Some(frame)) => frame,
                Ok(None) if self.settings.is_none() && self.reader.has_skipped() => {
                    return Err(missing());
                }
                Ok(None) => return Ok(()),
                // Whichever frame it was, it was not SETTINGS.
                Err(Fault::Connection(Code::FRAME_UNEXPECTED, _)) if self.settings.is_none() => {
                    return Err(missing());
                }
                Err(fault) => return Err(fault),
            };
            self.frame(&frame)?;
        }
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), Fault> {
        let unexpected = |what| Err(Fault::Connection(Code::FRAME_UNEXPECTED, what));
        match frame {
            Frame::Settings(_) if self.settings.is_some() => unexpected("SETTINGS come twice"),
            Frame::Settings(_) if self.reader.has_skipped() => Err(missing()),
            Frame::Settings(payload) => {
                self.settings = Some(Settings::decode(payload)?);
                Ok(())
            }
            _ if self.settings.is_none() => Err(missing()),
            Frame::Push(MAX_PUSH_ID, _) if !self.at_server => unexpected("MAX_PUSH_ID of a server"),
            Frame::Push(MAX_PUSH_ID, id) if *id < self.push_id_max => {
                Err(Fault::Connection(Code::ID_ERROR, "MAX_PUSH_ID falls"))
            }
            Frame::Push(MAX_PUSH_ID, id) => {
                self.push_id_max = *id;
                Ok(())
            }
            // CANCEL_PUSH: nothing was ever pushed or promised.
            Frame::Push(..) => Err(Fault::Connection(Code::ID_ERROR, "no push to be cancelled")),
            Frame::Goaway | Frame::Data(_) | Frame::Headers(_) => Ok(()),
        }
    }
}

const fn missing() -> Fault {
    Fault::Connection(Code::MISSING_SETTINGS, "SETTINGS do not come first")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(at_server: bool, bytes: &[u8], expected: Result<(), Code>) {
        let mut control = Control::new(at_server);
        let came = control.receive(Bytes::copy_from_slice(bytes)).map_err(Fault::code);
        assert_eq!(came, expected, "{bytes:02x?}");
    }

    #[test]
    fn settings_come_first_and_once() {
        check(true, &[4, 0], Ok(()));
        check(true, &[4, 2, 8, 1, 7, 1, 0, 0x21, 1, 9], Ok(()));
        for first in
            [&[7, 1, 0][..], &[0, 0], &[1, 0], &[0xd, 1, 0], &[0x21, 0], &[0x21, 1, 7, 4, 0]]
        {
            check(true, first, Err(Code::MISSING_SETTINGS));
        }
        check(true, &[4, 0, 4, 0], Err(Code::FRAME_UNEXPECTED));
        check(true, &[4, 0, 0, 0], Err(Code::FRAME_UNEXPECTED));
        check(true, &[4, 4, 8, 1, 8, 1], Err(Code::SETTINGS_ERROR));
    }

    #[test]
    fn nothing_is_pushed() {
        check(true, &[4, 0, 0xd, 1, 5, 0xd, 1, 5], Ok(()));
        check(true, &[4, 0, 0xd, 1, 5, 0xd, 1, 4], Err(Code::ID_ERROR));
        check(false, &[4, 0, 0xd, 1, 5], Err(Code::FRAME_UNEXPECTED));
        check(true, &[4, 0, 3, 1, 0], Err(Code::ID_ERROR));
    }
}
