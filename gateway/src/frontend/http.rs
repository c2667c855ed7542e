//! stub
use std::sync::Arc;
use crate::connect::Connector;
#[derive(Default)]
pub struct Options { pub allowed_origins: Vec<String> }
pub async fn run(_: Arc<Connector>, _: tokio::net::TcpListener, _: Options, _: impl Future<Output = ()>) -> std::io::Result<()> { unimplemented!() }
