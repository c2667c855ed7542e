//! stub
use super::*;
#[derive(Clone, Debug)]
pub struct Http;
impl Http {
    pub(super) async fn request(&self, _: Message, _: Asker) -> Exchange { unimplemented!() }
    pub(super) async fn send(&self, _: Message) {}
    pub(super) async fn shutdown(&self) {}
}
