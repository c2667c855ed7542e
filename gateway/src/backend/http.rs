//! stub
use super::*;
use crate::message::Limits;
#[derive(Clone, Debug)]
pub struct Http;
pub struct Options { pub limits: Limits, pub legacy: Option<bool> }
impl Options { pub fn new(_: String) -> Self { Self { limits: Limits::default(), legacy: None } } }
impl Http {
    pub fn start(_: Options) -> Result<(Self, mpsc::Receiver<News>), String> { unimplemented!() }
    pub(super) async fn request(&self, _: Message, _: Asker) -> Exchange { unimplemented!() }
    pub(super) async fn send(&self, _: Message) {}
    pub(super) async fn shutdown(&self) {}
}
